// Marks functions that g++ compiles for the host and nvcc for both sides.
#ifndef SPLITOP_KERNELS_HOST_DEVICE_H_
#define SPLITOP_KERNELS_HOST_DEVICE_H_

#ifdef __CUDACC__
#define SPLITOP_HOST_DEVICE __host__ __device__ __forceinline__
#else
#define SPLITOP_HOST_DEVICE inline __attribute__((always_inline))
#endif

#endif  // SPLITOP_KERNELS_HOST_DEVICE_H_
