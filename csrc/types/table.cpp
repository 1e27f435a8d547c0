// Every type that runs: a row says what it costs in a file, as what it lies in memory, and how it is read.

#include "types.h"

namespace madang {

namespace {

// What the quants of coded forms stand for, times the factor in the table. The grids of IQ3_XXS, IQ3_S and IQ2 hold
// magnitudes, here followed by their negatives. IQ1 adds -1/8 or 1/8 to -1, 0 or 1.
constexpr int8_t kIq4[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};
constexpr int8_t kE2m1[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};
constexpr int8_t kIq3Xxs[16] = {4, 12, 20, 28, 36, 44, 52, 62, -4, -12, -20, -28, -36, -44, -52, -62};
constexpr int8_t kIq3S[16] = {1, 3, 5, 7, 9, 11, 13, 15, -1, -3, -5, -7, -9, -11, -13, -15};
constexpr int8_t kIq2[16] = {8, 25, 43, 0, -8, -25, -43, 0};
constexpr int8_t kIq1[16] = {-9, -1, 7, 0, -7, 1, 9, 0};

constexpr TypeTraits kTraits[] = {
    {Type::F32, 1, 4, Type::F32},
    {Type::F16, 1, 2, Type::F16},
    {Type::BF16, 1, 2, Type::BF16},
    {Type::Q4_0, 32, 18, Type::Q4_0, read_q4_0},
    {Type::Q4_1, 32, 20, Type::Q4_1, read_q4_1},
    {Type::Q5_0, 32, 22, Type::Q5_0, read_q5_0},
    {Type::Q5_1, 32, 24, Type::Q5_1, read_q5_1},
    {Type::Q8_0, 32, 34, Type::Q8_0, read_q8_0},
    {Type::Q2_K, 256, 84, Type::Q2_K, read_q2_k},
    {Type::Q3_K, 256, 110, Type::Q3_K, read_q3_k},
    {Type::Q4_K, 256, 144, Type::Q4_K, read_q4_k},
    {Type::Q5_K, 256, 176, Type::Q5_K, read_q5_k},
    {Type::Q6_K, 256, 210, Type::Q6_K, read_q6_k},
    {Type::TQ1_0, 256, 54, Type::TQ2_0, read_tq1_0},
    {Type::TQ2_0, 256, 66, Type::TQ2_0, read_tq2_0},
    {Type::IQ4_NL, 32, 18, Type::IQ4_NL, read_q4_0, kIq4},
    {Type::MXFP4, 32, 17, Type::MXFP4, read_mxfp4, kE2m1},
    {Type::IQ4_XS, 256, 136, Type::IQ4_XS, read_iq4_xs, kIq4},
    {Type::IQ3_XXS, 256, 98, Type::IQ4_XS, read_iq3_xxs, kIq3Xxs, 0.25f},
    {Type::IQ3_S, 256, 110, Type::IQ4_XS, read_iq3_s, kIq3S},
    {Type::IQ2_XXS, 256, 66, Type::IQ2_XXS, read_iq2_xxs, kIq2, 0.125f},
    {Type::IQ2_XS, 256, 74, Type::IQ2_XS, read_iq2_xs, kIq2, 0.125f},
    {Type::IQ2_S, 256, 82, Type::IQ2_XS, read_iq2_s, kIq2, 0.125f},
    {Type::IQ1_S, 256, 50, Type::IQ2_XXS, read_iq1_s, kIq1, 0.125f},
    {Type::IQ1_M, 256, 56, Type::IQ2_XS, read_iq1_m, kIq1, 0.125f},
};

}  // namespace

const TypeTraits* find_traits(uint32_t type) {
    for (const TypeTraits& traits : kTraits)
        if (uint32_t(traits.file_type) == type) return &traits;
    return nullptr;
}

std::span<const TypeTraits> all_traits() { return kTraits; }

}  // namespace madang
