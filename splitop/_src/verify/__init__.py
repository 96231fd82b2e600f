"""`splitop.verify`: whether a model that is cut in two trains as it does in one piece."""
