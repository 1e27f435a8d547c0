#include <arm_neon.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <type_traits>
#include <vector>

#include "../half.h"
#include "kernels.h"

namespace madang {
namespace {
#include "simd_neon.h"

#include "kernels.inl"
}  // namespace

const Kernels kNeon = MADANG_KERNEL_TABLE("neon");

}  // namespace madang
