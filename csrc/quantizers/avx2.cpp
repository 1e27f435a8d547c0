#include <immintrin.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "../half.h"
#include "quantizers.h"

namespace madang {
namespace {
#include "../kernels/simd_avx2.h"

#include "lanes.inl"

#include "search.inl"

#include "super.inl"

#include "fits.inl"
}  // namespace

const Quantizers kAvx2Quantizers = {"avx2", fit_of, rounder_of, pass_on};

}  // namespace madang
