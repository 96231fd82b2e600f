// Activations whose gradient a dense layer can absorb.
//
// The gradient is read from one tensor r, "the activation's reference": its output y or
// its input z, whichever TensorFlow's own gradient op reads.
#ifndef SPLITOP_ACTIVATION_H_
#define SPLITOP_ACTIVATION_H_

#include "splitop/export.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum splitop_activation {
  SPLITOP_LINEAR = 0,      // g
  SPLITOP_RELU = 1,        // r = y or z: g where r > 0, else 0 * g
  SPLITOP_RELU6 = 2,       // r = y or z: g where 0 < r < 6, else 0 * g
  SPLITOP_LEAKY_RELU = 3,  // r = z: g where r > 0, else alpha * g
  SPLITOP_ELU = 4,         // r = y: g where r >= 0, else (r + 1) * g
  SPLITOP_SELU = 5,        // r = y: scale * g where r >= 0, else (r + scale * alpha) * g
  SPLITOP_TANH = 6,        // r = y: (1 - r * r) * g
  SPLITOP_SIGMOID = 7,     // r = y: r * (1 - r) * g
  SPLITOP_SOFTPLUS = 8,    // r = z: g / (1 + exp(-r))
  SPLITOP_SILU = 9,        // r = z: s * (1 + r * (1 - s)) * g, s = 1 / (1 + exp(-r))
  SPLITOP_GELU = 10,       // r = z: (Phi(r) + r * phi(r)) * g, the normal distribution's
  SPLITOP_NUM_ACTIVATIONS = 11
} splitop_activation;

// "linear", "relu", ...: the enumerator's name in lower case; NULL for an unknown one.
SPLITOP_API const char* splitop_activation_name(splitop_activation activation);

#ifdef __cplusplus
}
#endif

#endif  // SPLITOP_ACTIVATION_H_
