#include <algorithm>
#include <cmath>
#include <cstring>
#include <type_traits>
#include <vector>

#include "../half.h"
#include "kernels.h"

namespace madang {
namespace {
#include "simd_portable.h"

#include "kernels.inl"
}  // namespace

const Kernels kPortable = MADANG_KERNEL_TABLE("portable");

}  // namespace madang
