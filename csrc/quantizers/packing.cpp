// The numbers of a block, put where the file's format wants them: the opposite of the readers in csrc/types.

#include "quantizers.h"

namespace madang {

namespace {

void put_u16(uint8_t* p, uint16_t value) { std::memcpy(p, &value, 2); }

void put_nibbles(const uint8_t* quants, uint8_t* packed) {
    for (int i = 0; i < 16; ++i) packed[i] = uint8_t((quants[i] & 15) | (quants[i + 16] & 15) << 4);
}

void put_fifth_bits(const uint8_t* quants, uint8_t* bits) {
    uint32_t all = 0;
    for (int i = 0; i < kBlock; ++i) all |= uint32_t(quants[i] >> 4 & 1) << i;
    std::memcpy(bits, &all, 4);
}

// Bit fields j % 4 of 2 bits in the 32 bytes j / 4, for all 256 columns.
void put_pairs(const uint8_t* quants, uint8_t* packed) {
    for (int i = 0; i < 64; ++i) {
        const uint8_t* q = quants + i / 32 * 128 + i % 32;
        packed[i] = uint8_t((q[0] & 3) | (q[32] & 3) << 2 | (q[64] & 3) << 4 | (q[96] & 3) << 6);
    }
}

// Column c of each even 32 in the low nibbles, of the next in the high ones.
void put_k_nibbles(const uint8_t* quants, uint8_t* packed) {
    for (int i = 0; i < 128; ++i) {
        const uint8_t* q = quants + i / 32 * 64 + i % 32;
        packed[i] = uint8_t((q[0] & 15) | (q[32] & 15) << 4);
    }
}

// 8 scales and 8 mins of 6 bits in the 12 bytes that Q4_K and Q5_K share.
void put_k_scales(const BlockFields& fields, uint8_t* packed) {
    const int8_t* scales = fields.small_scales;
    const uint8_t* mins = fields.small_mins;
    for (int j = 0; j < 4; ++j) {
        packed[j] = uint8_t(scales[j] | scales[j + 4] >> 4 << 6);
        packed[j + 4] = uint8_t(mins[j] | mins[j + 4] >> 4 << 6);
        packed[j + 8] = uint8_t((scales[j + 4] & 15) | (mins[j + 4] & 15) << 4);
    }
}

void put_q4_0(const BlockFields& fields, uint8_t* block) {
    put_u16(block, fields.scale);
    put_nibbles(fields.quants, block + 2);
}

void put_q4_1(const BlockFields& fields, uint8_t* block) {
    put_u16(block, fields.scale);
    put_u16(block + 2, fields.min);
    put_nibbles(fields.quants, block + 4);
}

void put_q5_0(const BlockFields& fields, uint8_t* block) {
    put_u16(block, fields.scale);
    put_fifth_bits(fields.quants, block + 2);
    put_nibbles(fields.quants, block + 6);
}

void put_q5_1(const BlockFields& fields, uint8_t* block) {
    put_u16(block, fields.scale);
    put_u16(block + 2, fields.min);
    put_fifth_bits(fields.quants, block + 4);
    put_nibbles(fields.quants, block + 8);
}

void put_q8_0(const BlockFields& fields, uint8_t* block) {
    put_u16(block, fields.scale);
    std::memcpy(block + 2, fields.quants, kBlock);
}

void put_q2_k(const BlockFields& fields, uint8_t* block) {
    for (int s = 0; s < 16; ++s) block[s] = uint8_t(fields.small_scales[s] | fields.small_mins[s] << 4);
    put_pairs(fields.quants, block + 16);
    put_u16(block + 80, fields.scale);
    put_u16(block + 82, fields.min);
}

void put_q3_k(const BlockFields& fields, uint8_t* block) {
    std::memset(block, 0, 32);
    for (int c = 0; c < 256; ++c) block[c % 32] |= uint8_t((fields.quants[c] >> 2 & 1) << (c / 32));
    put_pairs(fields.quants, block + 32);
    uint8_t* packed = block + 96;
    std::memset(packed, 0, 12);
    for (int s = 0; s < 16; ++s) {
        const int scale = fields.small_scales[s] + 32;
        packed[s % 8] |= uint8_t((scale & 15) << (s / 8 * 4));
        packed[8 + s % 4] |= uint8_t(scale >> 4 << (s / 4 * 2));
    }
    put_u16(block + 108, fields.scale);
}

void put_q4_k(const BlockFields& fields, uint8_t* block) {
    put_u16(block, fields.scale);
    put_u16(block + 2, fields.min);
    put_k_scales(fields, block + 4);
    put_k_nibbles(fields.quants, block + 16);
}

void put_q5_k(const BlockFields& fields, uint8_t* block) {
    put_u16(block, fields.scale);
    put_u16(block + 2, fields.min);
    put_k_scales(fields, block + 4);
    std::memset(block + 16, 0, 32);
    for (int c = 0; c < 256; ++c) block[16 + c % 32] |= uint8_t((fields.quants[c] >> 4 & 1) << (c / 32));
    put_k_nibbles(fields.quants, block + 48);
}

void put_q6_k(const BlockFields& fields, uint8_t* block) {
    for (int half = 0; half < 2; ++half) {
        const uint8_t* q = fields.quants + 128 * half;
        for (int i = 0; i < 64; ++i) block[64 * half + i] = uint8_t((q[i] & 15) | (q[i + 64] & 15) << 4);
        for (int i = 0; i < 32; ++i)
            block[128 + 32 * half + i] = uint8_t(q[i] >> 4 | q[i + 32] >> 4 << 2 | q[i + 64] >> 4 << 4 | q[i + 96] >> 4 << 6);
    }
    std::memcpy(block + 192, fields.small_scales, 16);
    put_u16(block + 208, fields.scale);
}

void put_iq4_xs(const BlockFields& fields, uint8_t* block) {
    uint16_t high = 0;
    std::memset(block + 4, 0, 4);
    for (int j = 0; j < 8; ++j) {
        const int scale = fields.small_scales[j] + 32;
        block[4 + j / 2] |= uint8_t((scale & 15) << (j % 2 * 4));
        high |= uint16_t(scale >> 4 << (2 * j));
        put_nibbles(fields.quants + 32 * j, block + 8 + 16 * j);
    }
    put_u16(block, fields.scale);
    put_u16(block + 2, high);
}

}  // namespace

PackBlock packer_of(Type type) {
    switch (type) {
        case Type::Q4_0: return put_q4_0;
        case Type::Q4_1: return put_q4_1;
        case Type::Q5_0: return put_q5_0;
        case Type::Q5_1: return put_q5_1;
        case Type::Q8_0: return put_q8_0;
        case Type::Q2_K: return put_q2_k;
        case Type::Q3_K: return put_q3_k;
        case Type::Q4_K: return put_q4_k;
        case Type::Q5_K: return put_q5_k;
        case Type::Q6_K: return put_q6_k;
        case Type::IQ4_NL: return put_q4_0;  // the same fields; its quants are codes
        case Type::IQ4_XS: return put_iq4_xs;
        default: return nullptr;
    }
}

}  // namespace madang
