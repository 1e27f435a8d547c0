#include <immintrin.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <type_traits>
#include <vector>

#include "../half.h"
#include "kernels.h"

namespace madang {
namespace {
#include "simd_avx512.h"

#include "kernels.inl"
}  // namespace

const Kernels kAvx512Bf16 = MADANG_KERNEL_TABLE("avx512-bf16");

}  // namespace madang
