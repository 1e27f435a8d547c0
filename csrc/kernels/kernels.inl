// The kernels, written once in terms of the 16-lane vocabulary of simd_*.h. Include inside a namespace, after that header.

#include "blocks.inl"
#include "products.inl"
#include "rows.inl"
#include "attention.inl"

#define MADANG_KERNEL_TABLE(name)                                                                                     \
    {                                                                                                                 \
        name, kGroups, kHasBfloatDot, fetch, multiply, rms_norm, quantize, to_bfloat, layer_norm, activate, soft_cap,    \
            attend, attend_some, merge_partials, to_half, to_int8, max_of, exponentials                                                                     \
    }
