"""How long a step takes whose parts are on different machines: model, simulation, measurement."""
