// Optimizer update rules, and the hyperparameters and slots that each takes.
//
// A rule updates one weight w and its slots from its gradient g. Every rule first applies
// decoupled weight decay, w -= decay * w, to the variables that are marked as decayed.
// The hyperparameters are scalars of the variables' dtype in the order given here; what
// depends on the optimizer's flavour (Keras, TF1), on the step count or on a schedule is
// worked out by the caller, so that one rule serves all of them.
#ifndef SPLITOP_UPDATE_RULE_H_
#define SPLITOP_UPDATE_RULE_H_

#include <stdint.h>

#include "splitop/export.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { SPLITOP_MAX_SLOTS = 2, SPLITOP_MAX_HYPER = 5 };

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
  SPLITOP_NUM_UPDATE_RULES = 3
} splitop_update_rule;

// "sgd", "momentum" or "adam"; NULL for an unknown rule.
SPLITOP_API const char* splitop_update_rule_name(splitop_update_rule rule);

// Number of slots / hyperparameters of a rule; -1 for an unknown rule.
SPLITOP_API int32_t splitop_num_slots(splitop_update_rule rule);
SPLITOP_API int32_t splitop_num_hyper(splitop_update_rule rule);

// A trainable tensor and its optimizer state.
typedef struct splitop_variable {
  void* value;                     // [in,out] dense, row-major; NULL: no such variable
  void* slots[SPLITOP_MAX_SLOTS];  // [in,out] as many as the rule has, laid out as value
  int32_t decayed;                 // [in] nonzero: weight decay applies to it
} splitop_variable;

#ifdef __cplusplus
}
#endif

#endif  // SPLITOP_UPDATE_RULE_H_
