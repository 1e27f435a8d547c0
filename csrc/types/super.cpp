// K-types and IQ4_XS: super-blocks of 256 columns, whose blocks have small integer scales.

#include "types.h"

namespace madang {

namespace {

// The 6-bit scale and min of block j out of the 12 bytes that Q4_K and Q5_K share.
void read_k_scales(const uint8_t* packed, int j, RowBlock& out) {
    if (j < 4) {
        out.small_scales[0] = packed[j] & 63;
        out.small_min = packed[j + 4] & 63;
    } else {
        out.small_scales[0] = uint8_t((packed[j + 4] & 15) | packed[j - 4] >> 6 << 4);
        out.small_min = uint8_t(packed[j + 4] >> 4 | packed[j] >> 6 << 4);
    }
}

void read_k_nibbles(const uint8_t* packed, int j, uint8_t* quants) {
    for (int i = 0; i < kBlock; ++i) quants[i] = packed[j / 2 * 32 + i] >> (j % 2 * 4) & 15;
}

// The 6-bit scale of half block s of Q3_K: low nibbles in 8 bytes, the two bits above in 4 more.
uint8_t q3_k_scale(const uint8_t* packed, int s) {
    const int low = packed[s % 8] >> (s / 8 * 4) & 15, high = packed[8 + s % 4] >> (s / 4 * 2) & 3;
    return uint8_t((low | high << 4) - 32);
}

}  // namespace

void read_q2_k(const uint8_t* block, int j, RowBlock& out) {
    out.scale = read_u16(block + 80);
    out.min = read_u16(block + 82);
    std::memcpy(out.small_scales, block + 2 * j, 2);
    read_pairs(block + 16, j, out.quants);
}

void read_q3_k(const uint8_t* block, int j, RowBlock& out) {
    out.scale = read_u16(block + 108);
    for (int h = 0; h < 2; ++h) out.small_scales[h] = q3_k_scale(block + 96, 2 * j + h);
    read_pairs(block + 32, j, out.quants);
    for (int i = 0; i < kBlock; ++i) out.quants[i] |= uint8_t((block[i] >> j & 1) << 2);
}

void read_q4_k(const uint8_t* block, int j, RowBlock& out) {
    out.scale = read_u16(block);
    out.min = read_u16(block + 2);
    read_k_scales(block + 4, j, out);
    read_k_nibbles(block + 16, j, out.quants);
}

void read_q5_k(const uint8_t* block, int j, RowBlock& out) {
    out.scale = read_u16(block);
    out.min = read_u16(block + 2);
    read_k_scales(block + 4, j, out);
    read_k_nibbles(block + 48, j, out.quants);
    for (int i = 0; i < kBlock; ++i) out.quants[i] |= uint8_t((block[16 + i] >> j & 1) << 4);
}

// 128 bytes of low nibbles, 64 of the two bits above, 16 signed scales, one float16.
void read_q6_k(const uint8_t* block, int j, RowBlock& out) {
    out.scale = read_u16(block + 208);
    std::memcpy(out.small_scales, block + 192 + 2 * j, 2);
    const uint8_t* low = block + j / 4 * 64 + j % 2 * 32;
    const uint8_t* high = block + 128 + j / 4 * 32;
    for (int i = 0; i < kBlock; ++i)
        out.quants[i] = uint8_t((low[i] >> (j % 4 / 2 * 4) & 15) | (high[i] >> (j % 4 * 2) & 3) << 4);
}

void read_iq4_xs(const uint8_t* block, int j, RowBlock& out) {
    out.scale = read_u16(block);
    const int low = block[4 + j / 2] >> (j % 2 * 4) & 15, high = read_u16(block + 2) >> (2 * j) & 3;
    out.small_scales[0] = uint8_t((low | high << 4) - 32);
    read_nibbles(block + 8 + 16 * j, out.quants);
}

}  // namespace madang
