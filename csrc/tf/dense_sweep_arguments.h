// The argument of the C function behind Splitop>DenseSweep, from that of a chain.
#ifndef SPLITOP_TF_DENSE_SWEEP_ARGUMENTS_H_
#define SPLITOP_TF_DENSE_SWEEP_ARGUMENTS_H_

#include "splitop/dense_chain.h"
#include "splitop/dense_sweep.h"

namespace splitop {

// All but what the chain does not have.
inline splitop_dense_sweep ToSweep(const splitop_dense_chain& chain) {
  splitop_dense_sweep sweep = {};
  sweep.dtype = chain.dtype;
  sweep.batch = chain.batch;
  sweep.num_layers = chain.num_layers;
  sweep.layers = chain.layers;
  sweep.seed = chain.seed;
  sweep.input_gradient = chain.input_gradient;
  return sweep;
}

}  // namespace splitop

#endif  // SPLITOP_TF_DENSE_SWEEP_ARGUMENTS_H_
