// IQ1, IQ2 and IQ3: 8 or 4 columns at a time are an entry of a grid, and signs or shifts are kept apart.
//
// Read into 3 or 4 bits a column: the grid's own 2 or 3 bits, and above them whether the value is negative (IQ2, IQ3) or its
// shift positive (IQ1). TypeTraits::codes turns those into values.

#include <bit>

#include "types.h"

namespace madang {

namespace {

#include "grids.inl"

// An entry of a grid of 8 columns, with `top` (one bit a column) above its 2 bits.
void put_eight(uint16_t entry, unsigned top, uint8_t* quants) {
    for (int i = 0; i < 8; ++i) quants[i] = uint8_t((entry >> (2 * i) & 3) | (top >> i & 1) << 2);
}

// The same of a grid of 4 columns of 3 bits.
void put_four(uint16_t entry, unsigned top, uint8_t* quants) {
    for (int i = 0; i < 4; ++i) quants[i] = uint8_t((entry >> (3 * i) & 7) | (top >> i & 1) << 3);
}

// Where files keep 7 signs of 8, the number of negative ones is even.
unsigned eight_signs(uint32_t seven) {
    seven &= 127;
    return seven | unsigned(std::popcount(seven) & 1) << 7;
}

uint8_t odd(unsigned n) { return uint8_t(2 * n + 1); }

}  // namespace

// Per block: 4 bytes of indices, then 4 x 7 signs and a scale of 4 bits.
void read_iq2_xxs(const uint8_t* block, int j, RowBlock& out) {
    const uint8_t* p = block + 2 + 8 * j;
    const uint32_t signs = read_u32(p + 4);
    out.scale = read_u16(block);
    out.small_scales[0] = odd(signs >> 28);
    for (int k = 0; k < 4; ++k) put_eight(kGridIq2Xxs[p[k]], eight_signs(signs >> (7 * k)), out.quants + 8 * k);
}

// 9 bits of index and 7 of signs; then a scale of 4 bits per 16 columns.
void read_iq2_xs(const uint8_t* block, int j, RowBlock& out) {
    out.scale = read_u16(block);
    for (int h = 0; h < 2; ++h) out.small_scales[h] = odd(block[66 + j] >> (4 * h) & 15);
    for (int k = 0; k < 4; ++k) {
        const unsigned entry = read_u16(block + 2 + 8 * j + 2 * k);
        put_eight(kGridIq2Xs[entry & 511], eight_signs(entry >> 9), out.quants + 8 * k);
    }
}

// 32 bytes of low index bits, 32 of signs, 8 of index bits 8 and 9, 8 of scales.
void read_iq2_s(const uint8_t* block, int j, RowBlock& out) {
    out.scale = read_u16(block);
    for (int h = 0; h < 2; ++h) out.small_scales[h] = odd(block[74 + j] >> (4 * h) & 15);
    for (int k = 0; k < 4; ++k) {
        const unsigned high = block[66 + j] >> (2 * k) & 3;
        put_eight(kGridIq2S[block[2 + 4 * j + k] | high << 8], block[34 + 4 * j + k], out.quants + 8 * k);
    }
}

// 64 bytes of indices, then per block 4 x 7 signs and a scale of 4 bits.
void read_iq3_xxs(const uint8_t* block, int j, RowBlock& out) {
    const uint32_t signs = read_u32(block + 66 + 4 * j);
    out.scale = read_u16(block);
    out.small_scales[0] = odd(signs >> 28);
    for (int k = 0; k < 8; ++k)
        put_four(kGridIq3Xxs[block[2 + 8 * j + k]], eight_signs(signs >> (k / 2 * 7)) >> (k % 2 * 4), out.quants + 4 * k);
}

// 64 bytes of low index bits, 8 of index bit 8, 32 of signs, 4 of scales.
void read_iq3_s(const uint8_t* block, int j, RowBlock& out) {
    out.scale = read_u16(block);
    out.small_scales[0] = odd(block[106 + j / 2] >> (j % 2 * 4) & 15);
    for (int k = 0; k < 8; ++k) {
        const unsigned high = block[66 + j] >> k & 1;
        put_four(kGridIq3S[block[2 + 8 * j + k] | high << 8], block[74 + 4 * j + k / 2] >> (k % 2 * 4), out.quants + 4 * k);
    }
}

// 32 bytes of low index bits; then per block 4 x 3 high ones, a scale of 3 bits, and whether the shift is negative.
void read_iq1_s(const uint8_t* block, int j, RowBlock& out) {
    const unsigned high = read_u16(block + 34 + 2 * j);
    out.scale = read_u16(block);
    out.small_scales[0] = odd(high >> 12 & 7);
    for (int k = 0; k < 4; ++k)
        put_eight(kGridIq1[block[2 + 4 * j + k] | (high >> (3 * k) & 7) << 8], high >> 15 ? 0 : 255, out.quants + 8 * k);
}

// 32 bytes of low index bits; 16 of nibbles, 3 high ones and a shift each; 4 x 16 bits with four 3-bit scales each, and
// above those a fourth of the float16.
void read_iq1_m(const uint8_t* block, int j, RowBlock& out) {
    const uint8_t* scales = block + 48;
    out.scale = 0;
    for (int i = 0; i < 4; ++i) out.scale |= uint16_t(read_u16(scales + 2 * i) >> 12 << (4 * i));
    for (int h = 0; h < 2; ++h) out.small_scales[h] = odd(read_u16(scales + j / 2 * 2) >> ((j % 2 * 2 + h) * 3) & 7);
    for (int k = 0; k < 4; ++k) {
        const unsigned nibble = block[32 + 2 * j + k / 2] >> (k % 2 * 4);
        put_eight(kGridIq1[block[4 * j + k] | (nibble & 7) << 8], nibble & 8 ? 0 : 255, out.quants + 8 * k);
    }
}

}  // namespace madang
