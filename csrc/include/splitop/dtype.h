// Element types of weights, optimizer state and gradients.
#ifndef SPLITOP_DTYPE_H_
#define SPLITOP_DTYPE_H_

typedef enum splitop_dtype { SPLITOP_FLOAT32 = 0, SPLITOP_FLOAT64 = 1 } splitop_dtype;

#endif  // SPLITOP_DTYPE_H_
