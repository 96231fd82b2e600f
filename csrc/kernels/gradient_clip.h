// What a gradient goes through before its update rule: splitop_variable.clip.
#ifndef SPLITOP_KERNELS_GRADIENT_CLIP_H_
#define SPLITOP_KERNELS_GRADIENT_CLIP_H_

#include "kernels/host_device.h"

namespace splitop {

template <typename T>
struct GradientClip {
  T scale, bound;

  SPLITOP_HOST_DEVICE explicit GradientClip(const T* clip) : scale(clip[0]), bound(clip[1]) {}

  // NaN stays NaN.
  SPLITOP_HOST_DEVICE T operator()(T g) const {
    const T scaled = g * scale;
    return scaled > bound ? bound : scaled < -bound ? -bound : scaled;
  }
};

}  // namespace splitop

#endif  // SPLITOP_KERNELS_GRADIENT_CLIP_H_
