#include <algorithm>
#include <cmath>
#include <cstring>

#include "../half.h"
#include "quantizers.h"

namespace madang {
namespace {
#include "../kernels/simd_portable.h"

#include "lanes.inl"

#include "search.inl"

#include "super.inl"

#include "fits.inl"
}  // namespace

const Quantizers kPortableQuantizers = {"portable", fit_of, rounder_of, pass_on};

}  // namespace madang
