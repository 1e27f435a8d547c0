#include "layout.h"

#include <cstdlib>
#include <cstring>
#include <new>
#include <stdexcept>

#include "half.h"
#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace madang {

namespace {

// Columns: file block; then bytes of quants, high, scales, mins per 16x32 block and of supers per 16x256.
constexpr TypeTraits kTraits[] = {
    {Type::F32, 1, 4, 0, 0, 0, 0, 0},
    {Type::F16, 1, 2, 0, 0, 0, 0, 0},
    {Type::BF16, 1, 2, 0, 0, 0, 0, 0},
    {Type::Q4_0, 32, 18, 256, 0, 32, 0, 0},
    {Type::Q4_1, 32, 20, 256, 0, 32, 32, 0},
    {Type::Q5_0, 32, 22, 256, 64, 32, 0, 0},
    {Type::Q5_1, 32, 24, 256, 64, 32, 32, 0},
    {Type::Q8_0, 32, 34, 512, 0, 32, 0, 0},
    {Type::Q4_K, 256, 144, 256, 0, 16, 16, 64},
    {Type::Q5_K, 256, 176, 256, 64, 16, 16, 64},
    {Type::Q6_K, 256, 210, 256, 128, 32, 0, 32},
};

// One row's block of 32 (or the 8 of a super-block), between file and lanes: unsigned quants plus raw scale bytes.
struct RowBlock {
    uint8_t quants[kBlock];  // Q8_0 keeps its signed bytes
    uint16_t scale = 0, min = 0;
    uint8_t small_scale[2] = {0, 0}, small_min = 0;
};

struct SuperScales {
    uint16_t scale = 0, min = 0;
};

uint16_t read_u16(const uint8_t* p) {
    uint16_t value;
    std::memcpy(&value, p, 2);
    return value;
}

void read_nibbles(const uint8_t* packed, uint8_t* quants) {
    for (int i = 0; i < 16; ++i) {
        quants[i] = packed[i] & 15;
        quants[i + 16] = packed[i] >> 4;
    }
}

void add_fifth_bits(const uint8_t* bits, uint8_t* quants) {
    for (int i = 0; i < 32; ++i) quants[i] |= uint8_t((bits[i / 8] >> (i % 8) & 1) << 4);
}

RowBlock read_simple_block(Type type, const uint8_t* p) {
    RowBlock block;
    block.scale = read_u16(p);
    switch (type) {
        case Type::Q4_0: read_nibbles(p + 2, block.quants); break;
        case Type::Q4_1: block.min = read_u16(p + 2); read_nibbles(p + 4, block.quants); break;
        case Type::Q5_0: read_nibbles(p + 6, block.quants); add_fifth_bits(p + 2, block.quants); break;
        case Type::Q5_1:
            block.min = read_u16(p + 2);
            read_nibbles(p + 8, block.quants);
            add_fifth_bits(p + 4, block.quants);
            break;
        case Type::Q8_0: std::memcpy(block.quants, p + 2, 32); break;
        default: throw std::logic_error("not a 32-wide type");
    }
    return block;
}

// The 6-bit scale and min of sub-block j out of the 12 bytes that Q4_K and Q5_K share.
void read_k_scales(const uint8_t* packed, int j, uint8_t& scale, uint8_t& min) {
    if (j < 4) {
        scale = packed[j] & 63;
        min = packed[j + 4] & 63;
    } else {
        scale = uint8_t((packed[j + 4] & 15) | packed[j - 4] >> 6 << 4);
        min = uint8_t(packed[j + 4] >> 4 | packed[j] >> 6 << 4);
    }
}

SuperScales read_k_super(Type type, const uint8_t* p) {
    if (type == Type::Q6_K) return {read_u16(p + 208), 0};
    return {read_u16(p), read_u16(p + 2)};
}

RowBlock read_k_block(Type type, const uint8_t* p, int j) {
    RowBlock block;
    if (type == Type::Q6_K) {  // 128 bytes of low nibbles, 64 of high pairs, 16 signed scales, one float16
        const uint8_t* low = p + j / 4 * 64 + j % 2 * 32;
        const uint8_t* high = p + 128 + j / 4 * 32;
        for (int i = 0; i < 32; ++i) {
            const int nibble = j % 4 < 2 ? low[i] & 15 : low[i] >> 4;
            block.quants[i] = uint8_t(nibble | (high[i] >> (j % 4 * 2) & 3) << 4);
        }
        block.small_scale[0] = p[192 + 2 * j];
        block.small_scale[1] = p[192 + 2 * j + 1];
        return block;
    }
    read_k_scales(p + 4, j, block.small_scale[0], block.small_min);
    const uint8_t* quants = p + (type == Type::Q4_K ? 16 : 48) + j / 2 * 32;
    for (int i = 0; i < 32; ++i) {
        block.quants[i] = j % 2 ? quants[i] >> 4 : quants[i] & 15;
        if (type == Type::Q5_K) block.quants[i] |= uint8_t((p[16 + i] >> j & 1) << 4);
    }
    return block;
}

// Byte index of column c of row r in a block of eight 64-byte vectors.
constexpr int lane_byte(int row, int column) { return column / 4 * 64 + row * 4 + column % 4; }

void write_block(const TypeTraits& traits, const Planes& planes, uint8_t* group, int row, int b, const RowBlock& block) {
    uint8_t* quants = group + planes.quants + size_t(b) * traits.quants;
    uint8_t* high = group + planes.high + size_t(b) * traits.high;
    for (int c = 0; c < kBlock; ++c) {
        const uint8_t q = block.quants[c];
        const int at = lane_byte(row, c);
        if (traits.quants == 512) {
            quants[at] = q;
        } else {
            quants[at % 256] |= uint8_t(at < 256 ? q & 15 : q << 4);
            if (traits.high == 64) high[at / 8] |= uint8_t((q >> 4 & 1) << (at % 8));
            if (traits.high == 128) high[at / 256 * 64 + at % 64] |= uint8_t((q >> 4) << (at / 64 % 4 * 2));
        }
    }
    uint8_t* scales = group + planes.scales + size_t(b) * traits.scales;
    uint8_t* mins = group + planes.mins + size_t(b) * traits.mins;
    if (traits.supers == 0) {
        std::memcpy(scales + 2 * row, &block.scale, 2);
        if (traits.mins) std::memcpy(mins + 2 * row, &block.min, 2);
    } else {
        scales[row] = block.small_scale[0];
        if (traits.scales == 32) scales[16 + row] = block.small_scale[1];
        if (traits.mins) mins[row] = block.small_min;
    }
}

void pack_quantized_row(const TypeTraits& traits, const Planes& planes, uint8_t* group, int row, int columns,
                        const uint8_t* file_row) {
    for (int b = 0; b < columns / kBlock; ++b) {
        if (traits.supers == 0) {
            write_block(traits, planes, group, row, b, read_simple_block(traits.type, file_row + size_t(b) * traits.block_bytes));
            continue;
        }
        const uint8_t* file_block = file_row + size_t(b / kSuperBlocks) * traits.block_bytes;
        write_block(traits, planes, group, row, b, read_k_block(traits.type, file_block, b % kSuperBlocks));
        if (b % kSuperBlocks == 0) {
            const SuperScales super = read_k_super(traits.type, file_block);
            uint8_t* supers = group + planes.supers + size_t(b / kSuperBlocks) * traits.supers;
            std::memcpy(supers + 2 * row, &super.scale, 2);
            if (traits.supers == 64) std::memcpy(supers + 32 + 2 * row, &super.min, 2);
        }
    }
}

void pack_float_row(Type type, uint8_t* group, int row, int columns, const uint8_t* file_row) {
    for (int c = 0; c < columns; ++c) {
        switch (type) {
            case Type::F32: std::memcpy(group + (size_t(c) * kLanes + row) * 4, file_row + 4 * size_t(c), 4); break;
            case Type::F16: std::memcpy(group + (size_t(c) * kLanes + row) * 2, file_row + 2 * size_t(c), 2); break;
            default: std::memcpy(group + (size_t(c / 2) * kLanes * 2 + row * 2 + c % 2) * 2, file_row + 2 * size_t(c), 2);
        }
    }
}

float unpack_quant(const TypeTraits& traits, const Planes& planes, const uint8_t* group, int row, int column) {
    const int b = column / kBlock, at = lane_byte(row, column % kBlock);
    const uint8_t* quants = group + planes.quants + size_t(b) * traits.quants;
    if (traits.quants == 512) return float(int8_t(quants[at]));
    const uint8_t* high = group + planes.high + size_t(b) * traits.high;
    int q = at < 256 ? quants[at] & 15 : quants[at % 256] >> 4;
    if (traits.high == 64) q |= (high[at / 8] >> (at % 8) & 1) << 4;
    if (traits.high == 128) q |= (high[at / 256 * 64 + at % 64] >> (at / 64 % 4 * 2) & 3) << 4;
    switch (traits.type) {
        case Type::Q4_0: return float(q - 8);
        case Type::Q5_0: return float(q - 16);
        case Type::Q6_K: return float(q - 32);
        default: return float(q);
    }
}

void unpack_quantized_row(const TypeTraits& traits, const uint8_t* group, int row, int columns, float* out) {
    const Planes planes(traits, columns);
    for (int c = 0; c < columns; ++c) {
        const int b = c / kBlock;
        const uint8_t* scales = group + planes.scales + size_t(b) * traits.scales;
        const uint8_t* mins = group + planes.mins + size_t(b) * traits.mins;
        float scale, min = 0;
        if (traits.supers == 0) {
            scale = half_to_float(read_u16(scales + 2 * row));
            if (traits.mins) min = half_to_float(read_u16(mins + 2 * row));
        } else {
            const uint8_t* supers = group + planes.supers + size_t(b / kSuperBlocks) * traits.supers;
            const int small = traits.scales == 32 ? int8_t(scales[c % kBlock / 16 * 16 + row]) : scales[row];
            scale = half_to_float(read_u16(supers + 2 * row)) * float(small);
            if (traits.mins) min = -half_to_float(read_u16(supers + 32 + 2 * row)) * float(mins[row]);
        }
        out[c] = scale * unpack_quant(traits, planes, group, row, c) + min;
    }
}

}  // namespace

const TypeTraits* find_traits(uint32_t type) {
    for (const TypeTraits& traits : kTraits)
        if (uint32_t(traits.type) == type) return &traits;
    return nullptr;
}

std::span<const TypeTraits> all_traits() { return kTraits; }

Planes::Planes(const TypeTraits& traits, int columns) {
    if (!is_quantized(traits.type)) {
        high = scales = mins = supers = 0;
        group_bytes = round_up(round_up(columns, 2) * traits.block_bytes * kLanes, kAlignment);
        return;
    }
    const size_t blocks = size_t(columns) / kBlock;
    high = round_up(blocks * traits.quants, kAlignment);
    scales = high + round_up(blocks * traits.high, kAlignment);
    mins = scales + round_up(blocks * traits.scales, kAlignment);
    supers = mins + round_up(blocks * traits.mins, kAlignment);
    group_bytes = supers + round_up(blocks / kSuperBlocks * traits.supers, kAlignment);
}

Buffer::Buffer(size_t bytes) : bytes_(bytes) {
    constexpr size_t kHugePage = size_t(2) << 20;
    const size_t alignment = bytes >= kHugePage ? kHugePage : kAlignment;
    const size_t padded = round_up(bytes ? bytes : 1, alignment);
#if defined(_WIN32)
    memory_.reset(static_cast<uint8_t*>(_aligned_malloc(padded, alignment)));
#else
    memory_.reset(static_cast<uint8_t*>(std::aligned_alloc(alignment, padded)));
#endif
    if (!memory_) throw std::bad_alloc();
#if defined(__linux__)
    if (alignment == kHugePage) madvise(memory_.get(), padded, MADV_HUGEPAGE);
#endif
    std::memset(memory_.get(), 0, bytes);
}

void Buffer::Free::operator()(uint8_t* memory) const {
#if defined(_WIN32)
    _aligned_free(memory);
#else
    std::free(memory);
#endif
}

PackedMatrix allocate_matrix(const TypeTraits& traits, int rows, int columns) {
    if (columns > kMaxColumns) throw std::invalid_argument("a matrix row has more than 131072 columns");
    if (rows <= 0 || columns <= 0 || columns % traits.block_elements != 0)
        throw std::invalid_argument("a matrix row must be a whole number of its type's blocks");
    PackedMatrix matrix;
    matrix.traits = &traits;
    matrix.rows = rows;
    matrix.columns = columns;
    matrix.group_bytes = Planes(traits, columns).group_bytes;
    matrix.data = Buffer(matrix.group_bytes * matrix.groups());
    return matrix;
}

void pack_group(PackedMatrix& matrix, int group, const uint8_t* file_rows) {
    const TypeTraits& traits = *matrix.traits;
    const Planes planes(traits, matrix.columns);
    const size_t row_bytes = size_t(matrix.columns) / traits.block_elements * traits.block_bytes;
    uint8_t* out = matrix.data.data() + size_t(group) * matrix.group_bytes;
    for (int lane = 0; lane < kLanes && group * kLanes + lane < matrix.rows; ++lane) {
        const uint8_t* file_row = file_rows + size_t(group * kLanes + lane) * row_bytes;
        if (is_quantized(traits.type))
            pack_quantized_row(traits, planes, out, lane, matrix.columns, file_row);
        else
            pack_float_row(traits.type, out, lane, matrix.columns, file_row);
    }
}

void unpack_row(const PackedMatrix& matrix, int row, float* out) {
    const uint8_t* group = matrix.group(row / kLanes);
    const int lane = row % kLanes;
    if (is_quantized(matrix.type())) return unpack_quantized_row(*matrix.traits, group, lane, matrix.columns, out);
    for (int c = 0; c < matrix.columns; ++c) {
        const size_t at = size_t(c) * kLanes + lane;
        switch (matrix.type()) {
            case Type::F32: std::memcpy(out + c, group + at * 4, 4); break;
            case Type::F16: out[c] = half_to_float(read_u16(group + at * 2)); break;
            default: out[c] = bfloat_to_float(read_u16(group + (size_t(c / 2) * kLanes * 2 + lane * 2 + c % 2) * 2));
        }
    }
}

}  // namespace madang
