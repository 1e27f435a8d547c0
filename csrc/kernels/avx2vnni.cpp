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
#include "simd_avx2.h"

#include "kernels.inl"
}  // namespace

const Kernels kAvx2Vnni = MADANG_KERNEL_TABLE("avx2-vnni");

}  // namespace madang
