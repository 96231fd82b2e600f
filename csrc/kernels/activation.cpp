#include "splitop/activation.h"

const char* splitop_activation_name(splitop_activation activation) {
  switch (activation) {
    case SPLITOP_LINEAR:
      return "linear";
    case SPLITOP_RELU:
      return "relu";
    case SPLITOP_RELU6:
      return "relu6";
    case SPLITOP_LEAKY_RELU:
      return "leaky_relu";
    case SPLITOP_ELU:
      return "elu";
    case SPLITOP_SELU:
      return "selu";
    case SPLITOP_TANH:
      return "tanh";
    case SPLITOP_SIGMOID:
      return "sigmoid";
    case SPLITOP_SOFTPLUS:
      return "softplus";
    case SPLITOP_SILU:
      return "silu";
    case SPLITOP_GELU:
      return "gelu";
    default:
      return nullptr;
  }
}
