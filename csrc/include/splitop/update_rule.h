// Optimizer update rules, and the hyperparameters and slots that each takes.
//
// A rule updates one weight w and its slots from its gradient g. Every rule first applies
// decoupled weight decay, w -= decay * w, to the variables that are marked as decayed.
// The hyperparameters are scalars of the variables' dtype in the order given here; what
// depends on the optimizer's flavour (Keras, TF1), on the step count or on a schedule is
// worked out by the caller, so that one rule serves all of them.
//
// A row of a variable is what is under one index of its first dimension: one element of a vector;
// a scalar is a row itself. The slots of a row-wise rule hold one element for each row, and where
// its formula has g * g, it takes the mean of the row's: it is applied to rows as a whole.
#ifndef SPLITOP_UPDATE_RULE_H_
#define SPLITOP_UPDATE_RULE_H_

#include <stdint.h>

#include "splitop/export.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { SPLITOP_MAX_SLOTS = 3, SPLITOP_MAX_HYPER = 7 };

typedef enum splitop_update_rule {
  // hyper: decay, lr.   slots: none.
  //   w -= lr * g
  SPLITOP_SGD = 0,
  // hyper: decay, momentum, gradient_scale, slot_step, gradient_step.   slots: m.
  //   m = momentum * m + gradient_scale * g
  //   w += slot_step * m + gradient_step * g
  // Keras: scale = -lr, steps = (1, 0), Nesterov (momentum, -lr).
  // TF1:   scale = 1, steps = (-lr, 0), Nesterov (-lr * momentum, -lr).
  SPLITOP_MOMENTUM = 1,
  // hyper: decay, step_size, one_minus_beta1, one_minus_beta2, epsilon.   slots: m, v.
  //   m += (g - m) * one_minus_beta1
  //   v += (g * g - v) * one_minus_beta2
  //   w -= m * step_size / (sqrt(v) + epsilon)
  // with step_size = lr * sqrt(1 - beta2^t) / (1 - beta1^t), as Keras and TF1 have it.
  SPLITOP_ADAM = 2,
  // hyper: as adam.   slots: m, v, v_hat.
  //   m and v as adam; v_hat = max(v_hat, v)
  //   w -= m * step_size / (sqrt(v_hat) + epsilon)
  SPLITOP_AMSGRAD = 3,
  // hyper: decay, lr, epsilon.   slots: a.
  //   a += g * g
  //   w -= lr * g / sqrt(a + epsilon)
  SPLITOP_ADAGRAD = 4,
  // hyper: decay, lr, one_minus_rho, epsilon.   slots: v.
  //   v += (g * g - v) * one_minus_rho
  //   w -= lr * g / sqrt(v + epsilon)
  SPLITOP_RMSPROP = 5,
  // hyper: decay, lr, one_minus_rho, epsilon, momentum.   slots: v, b.
  //   v as rmsprop
  //   b = momentum * b + lr * g / sqrt(v + epsilon)
  //   w -= b
  SPLITOP_RMSPROP_MOMENTUM = 6,
  // hyper: as rmsprop.   slots: v, a.
  //   v as rmsprop; a += (g - a) * one_minus_rho
  //   w -= lr * g / sqrt(v - a * a + epsilon)
  SPLITOP_RMSPROP_CENTERED = 7,
  // hyper: as rmsprop_momentum.   slots: v, a, b.
  //   v and a as rmsprop_centered
  //   b = momentum * b + lr * g / sqrt(v - a * a + epsilon)
  //   w -= b
  SPLITOP_RMSPROP_CENTERED_MOMENTUM = 8,
  // hyper: decay, lr, one_minus_rho, epsilon.   slots: a, d.
  //   a += (g * g - a) * one_minus_rho
  //   step = sqrt(d + epsilon) * g / sqrt(a + epsilon)
  //   d += (step * step - d) * one_minus_rho
  //   w -= lr * step
  SPLITOP_ADADELTA = 9,
  // hyper: decay, step_size, one_minus_beta1, beta2, epsilon.   slots: m, u.
  //   m += (g - m) * one_minus_beta1
  //   u = max(beta2 * u, |g|)
  //   w -= step_size * m / (u + epsilon)
  // with step_size = lr / (1 - beta1^t).
  SPLITOP_ADAMAX = 10,
  // hyper: decay, slot_step, gradient_step, one_minus_beta1, one_minus_beta2, v_scale, epsilon.
  // slots: m, v.
  //   m and v as adam
  //   w -= (slot_step * m + gradient_step * g) / (sqrt(v * v_scale) + epsilon)
  // with slot_step = lr * u_(t+1) / (1 - u_1 ... u_(t+1)), gradient_step =
  // lr * (1 - u_t) / (1 - u_1 ... u_t), v_scale = 1 / (1 - beta2^t), and
  // u_t = beta1 * (1 - 0.96^t / 2).
  SPLITOP_NADAM = 11,
  // hyper: decay, lr, power, l1, twice_l2, twice_shrinkage.   slots: a, z.
  //   z += g + twice_shrinkage * w - ((a + g * g)^power - a^power) / lr * w
  //   a += g * g
  //   w = (clip(z, -l1, l1) - z) / (a^power / lr + twice_l2)
  // with power = -learning_rate_power, and twice_l2 = 2 * l2 + beta / lr.
  SPLITOP_FTRL = 12,
  // hyper: decay, lr, beta1, one_minus_beta1, beta2, one_minus_beta2.   slots: m.
  //   w -= lr * sign(beta1 * m + one_minus_beta1 * g)
  //   m = beta2 * m + one_minus_beta2 * g
  SPLITOP_LION = 13,
  // Row-wise.   hyper: decay, lr, epsilon.   slots: a.
  //   a += g * g
  //   w -= lr / (sqrt(a) + epsilon) * g
  SPLITOP_ROWWISE_ADAGRAD = 14,
  SPLITOP_NUM_UPDATE_RULES = 15
} splitop_update_rule;

// The enumerator in lower case, without its prefix ("adam"); NULL for an unknown rule.
SPLITOP_API const char* splitop_update_rule_name(splitop_update_rule rule);

// Number of slots / hyperparameters of a rule; -1 for an unknown rule.
SPLITOP_API int32_t splitop_num_slots(splitop_update_rule rule);
SPLITOP_API int32_t splitop_num_hyper(splitop_update_rule rule);

// 1 for a row-wise rule, 0 for another one; -1 for an unknown rule.
SPLITOP_API int32_t splitop_is_rowwise(splitop_update_rule rule);

// A trainable tensor and its optimizer state.
typedef struct splitop_variable {
  void* value;                     // [in,out] dense, row-major; NULL: no such variable
  void* slots[SPLITOP_MAX_SLOTS];  // [in,out] as many as the rule has, laid out as value, or of a
                                   //          row-wise rule one element for each of its rows
  int32_t decayed;                 // [in] nonzero: weight decay applies to it
  const void* clip;  // [in] two scalars of the variable's type, where the hyperparameters are: its
                     //      gradient is multiplied by the first one, then clipped to the range
                     //      from minus the second one to the second one; NULL: neither. Not
                     //      for tables
} splitop_variable;

#ifdef __cplusplus
}
#endif

#endif  // SPLITOP_UPDATE_RULE_H_
