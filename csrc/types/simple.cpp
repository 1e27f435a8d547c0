// Types of 32 columns with one scale, and those whose quants are 2 bits with one scale per 256: ternary weights.

#include "types.h"

namespace madang {

namespace {

void add_fifth_bits(const uint8_t* bits, uint8_t* quants) {
    for (int i = 0; i < kBlock; ++i) quants[i] |= uint8_t((bits[i / 8] >> (i % 8) & 1) << 4);
}

// The digit of that index, 0 to 2, of a byte that holds a fraction in base 3.
uint8_t ternary_digit(uint8_t fraction, int index) {
    constexpr uint8_t powers[] = {1, 3, 9, 27, 81};
    return uint8_t(uint16_t(uint8_t(fraction * powers[index])) * 3 >> 8);
}

}  // namespace

void read_q4_0(const uint8_t* block, int, RowBlock& out) {
    out.scale = read_u16(block);
    read_nibbles(block + 2, out.quants);
}

void read_q4_1(const uint8_t* block, int, RowBlock& out) {
    out.scale = read_u16(block);
    out.min = read_u16(block + 2);
    read_nibbles(block + 4, out.quants);
}

void read_q5_0(const uint8_t* block, int, RowBlock& out) {
    out.scale = read_u16(block);
    read_nibbles(block + 6, out.quants);
    add_fifth_bits(block + 2, out.quants);
}

void read_q5_1(const uint8_t* block, int, RowBlock& out) {
    out.scale = read_u16(block);
    out.min = read_u16(block + 2);
    read_nibbles(block + 8, out.quants);
    add_fifth_bits(block + 4, out.quants);
}

void read_q8_0(const uint8_t* block, int, RowBlock& out) {
    out.scale = read_u16(block);
    std::memcpy(out.quants, block + 2, kBlock);
}

void read_mxfp4(const uint8_t* block, int, RowBlock& out) {
    out.small_scales[0] = block[0];
    read_nibbles(block + 1, out.quants);
}

void read_tq2_0(const uint8_t* block, int j, RowBlock& out) {
    out.scale = read_u16(block + 64);
    read_pairs(block, j, out.quants);
}

// Five digits a byte: 5 x 32 columns in the first 32 bytes, 5 x 16 in the next 16, and 4 x 4 in the last 4.
void read_tq1_0(const uint8_t* block, int j, RowBlock& out) {
    out.scale = read_u16(block + 52);
    for (int i = 0; i < kBlock; ++i) {
        const int c = j * kBlock + i;
        out.quants[i] = c < 160   ? ternary_digit(block[c % 32], c / 32)
                        : c < 240 ? ternary_digit(block[32 + c % 16], (c - 160) / 16)
                                  : ternary_digit(block[48 + c % 4], (c - 240) / 4);
    }
}

}  // namespace madang
