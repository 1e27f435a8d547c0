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

// Where the planes of block b of a group begin.
struct BlockPlanes {
    uint8_t *quants, *high, *scales, *mins, *supers;

    BlockPlanes(const Form& form, const Planes& planes, uint8_t* group, int b)
        : quants(group + planes.quants + size_t(b) * form.quants_bytes()),
          high(group + planes.high + size_t(b) * form.high_bytes()),
          scales(group + planes.scales + size_t(b) * form.scales_bytes()),
          mins(group + planes.mins + size_t(b) * form.mins_bytes()),
          supers(group + planes.supers + size_t(b / kSuperBlocks) * form.supers_bytes()) {}
};

// ---- file to planes --------------------------------------------------------------------------------------------------

bool is_finite_half(uint16_t half) { return (half & 0x7c00) != 0x7c00; }

void put_u32(uint8_t* p, uint32_t value) { std::memcpy(p, &value, 4); }

// Bits `shift` and `shift` + 1 of each quant, as four fields to a byte.
void write_pairs(const uint8_t* quants, int shift, uint8_t* plane, int row) {
    for (int v = 0; v < 2; ++v) {
        uint32_t word = 0;
        for (int field = 0; field < 4; ++field)
            word |= (read_u32(quants + 4 * (4 * v + field)) >> shift & 0x03030303) << (2 * field);
        put_u32(plane + 64 * v + 4 * row, word);
    }
}

// Bit `shift` of each quant; two rows share a byte.
void write_bits(const uint8_t* quants, int shift, uint8_t* plane, int row) {
    for (int j = 0; j < 8; ++j) {
        const uint32_t bits = read_u32(quants + 4 * j) >> shift & 0x01010101;
        const uint32_t nibble = bits * 0x01020408u >> 24 & 15;
        plane[8 * j + row / 2] |= uint8_t(nibble << (row % 2 * 4));
    }
}

void write_quants(const Form& form, const uint8_t* quants, const BlockPlanes& to, int row) {
    if (form.bits == 2) write_pairs(quants, 0, to.quants, row);
    if (form.bits == 4)
        for (int j = 0; j < 4; ++j) {
            const uint32_t low = read_u32(quants + 4 * j), high = read_u32(quants + 4 * (j + 4));
            put_u32(to.quants + 64 * j + 4 * row, (low & 0x0f0f0f0f) | (high & 0x0f0f0f0f) << 4);
        }
    if (form.bits == 8)
        for (int j = 0; j < 8; ++j) put_u32(to.quants + 64 * j + 4 * row, read_u32(quants + 4 * j));
    if (form.high_bits == 1) write_bits(quants, form.bits, to.high, row);
    if (form.high_bits == 2) write_pairs(quants, form.bits, to.high, row);
}

void write_scales(const Form& form, const RowBlock& block, const BlockPlanes& to, int row) {
    if (form.scale == Scale::Half) {
        std::memcpy(to.scales + 2 * row, &block.scale, 2);
        if (form.minimum == Minimum::Half) std::memcpy(to.mins + 2 * row, &block.min, 2);
        return;
    }
    if (form.scales_bytes()) to.scales[row] = block.small_scales[0];
    if (form.halves) to.scales[kLanes + row] = block.small_scales[1];
    if (form.mins_bytes()) to.mins[row] = block.small_min;
}

void write_supers(const Form& form, const RowBlock& block, const BlockPlanes& to, int row) {
    std::memcpy(to.supers + 2 * row, &block.scale, 2);
    if (form.minimum == Minimum::Super) std::memcpy(to.supers + 2 * kLanes + 2 * row, &block.min, 2);
}

bool has_finite_scales(const Form& form, const RowBlock& block) {
    if (form.scale == Scale::Exponent) return block.small_scales[0] != 255;
    return is_finite_half(block.scale) && is_finite_half(block.min);
}

bool pack_quantized_row(const TypeTraits& traits, const Planes& planes, uint8_t* group, int row, int columns, const uint8_t* file_row) {
    const Form form = form_of(traits.type);
    const int blocks_in_one = traits.block_elements / kBlock;
    bool finite = true;
    for (int b = 0; b < columns / kBlock; ++b) {
        RowBlock block;
        traits.read(file_row + size_t(b / blocks_in_one) * traits.block_bytes, b % blocks_in_one, block);
        finite &= has_finite_scales(form, block);
        const BlockPlanes to(form, planes, group, b);
        write_quants(form, block.quants, to, row);
        write_scales(form, block, to, row);
        if (form.has_supers() && b % kSuperBlocks == 0) write_supers(form, block, to, row);
    }
    return finite;
}

// Exponents of all ones mean infinity or NaN. `Bits` is an unsigned integer of the float's size. Apart from the copy, so that
// compilers vectorize it.
template <class Bits>
bool are_finite(const uint8_t* floats, int n, Bits exponent) {
    Bits found = 0;
    for (int i = 0; i < n; ++i) {
        Bits bits;
        std::memcpy(&bits, floats + sizeof(Bits) * size_t(i), sizeof(Bits));
        found |= Bits((bits & exponent) == exponent);
    }
    return found == 0;
}

// `together` columns of a row lie side by side.
template <class Bits, int together>
bool pack_floats(uint8_t* group, int row, int columns, const uint8_t* file_row, Bits exponent) {
    for (int c = 0; c < columns; ++c) {
        const size_t at = size_t(c / together) * kLanes * together + row * together + c % together;
        std::memcpy(group + at * sizeof(Bits), file_row + sizeof(Bits) * size_t(c), sizeof(Bits));
    }
    return are_finite<Bits>(file_row, columns, exponent);
}

bool pack_float_row(Type type, uint8_t* group, int row, int columns, const uint8_t* file_row) {
    switch (type) {
        case Type::F32: return pack_floats<uint32_t, 1>(group, row, columns, file_row, 0x7f800000);
        case Type::F16: return pack_floats<uint16_t, 1>(group, row, columns, file_row, 0x7c00);
        default: return pack_floats<uint16_t, 2>(group, row, columns, file_row, 0x7f80);
    }
}

// ---- planes to floats ------------------------------------------------------------------------------------------------

int read_field(const uint8_t* plane, int row, int column) {
    const int j = column / 4;
    return plane[j / 4 * 64 + row * 4 + column % 4] >> (j % 4 * 2) & 3;
}

int read_quant(const Form& form, const BlockPlanes& from, int row, int column) {
    const int j = column / 4, lane = row * 4 + column % 4;
    if (form.bits == 8) return int8_t(from.quants[64 * j + lane]);
    int q = form.bits == 2 ? read_field(from.quants, row, column) : from.quants[j % 4 * 64 + lane] >> (j / 4 * 4) & 15;
    if (form.high_bits == 1) q |= (from.high[8 * j + lane / 8] >> (lane % 8) & 1) << form.bits;
    if (form.high_bits == 2) q |= read_field(from.high, row, column) << form.bits;
    return q;
}

float read_scale(const TypeTraits& traits, const Form& form, const BlockPlanes& from, int row, int half) {
    const uint8_t small = from.scales[(form.halves ? half : 0) * kLanes + row];
    const auto super = [&] { return half_to_float(read_u16(from.supers + 2 * row)); };
    switch (form.scale) {
        case Scale::Half: return half_to_float(read_u16(from.scales + 2 * row));
        case Scale::Exponent: return bits_to_float(small ? uint32_t(small) << 23 : 0x00400000) * 0.5f;
        case Scale::Super: return super();
        case Scale::Signed: return super() * float(int8_t(small)) * traits.factor;
        case Scale::Unsigned: return super() * float(small);
        case Scale::Nibbles: return super() * float(small & 15);
        default: return 0;
    }
}

float read_min(const Form& form, const BlockPlanes& from, int row, int half) {
    if (form.minimum == Minimum::Offset) return 0;
    if (form.minimum == Minimum::Half) return half_to_float(read_u16(from.mins + 2 * row));
    const int small = form.scale == Scale::Nibbles ? from.scales[half * kLanes + row] >> 4 : from.mins[row];
    return -half_to_float(read_u16(from.supers + 2 * kLanes + 2 * row)) * float(small);
}

void unpack_quantized_row(const TypeTraits& traits, const uint8_t* group, int row, int columns, float* out) {
    const Form form = form_of(traits.type);
    const Planes planes(traits, columns);
    for (int c = 0; c < columns; c += kLanes) {
        const BlockPlanes from(form, planes, const_cast<uint8_t*>(group), c / kBlock);
        const int half = c % kBlock / kLanes;
        const float scale = read_scale(traits, form, from, row, half), min = read_min(form, from, row, half);
        for (int i = 0; i < kLanes; ++i) {
            const int q = read_quant(form, from, row, half * kLanes + i);
            out[c + i] = scale * float(form.coded ? traits.codes[q] : q + form.offset) + min;
        }
    }
}

}  // namespace

Planes::Planes(const TypeTraits& traits, int columns) {
    const Form form = form_of(traits.type);
    if (form.bits == 0) {
        group_bytes = round_up(round_up(columns, 2) * traits.block_bytes * kLanes, kAlignment);
        return;
    }
    const size_t blocks = size_t(columns) / kBlock;
    high = round_up(blocks * form.quants_bytes(), kAlignment);
    scales = high + round_up(blocks * form.high_bytes(), kAlignment);
    mins = scales + round_up(blocks * form.scales_bytes(), kAlignment);
    supers = mins + round_up(blocks * form.mins_bytes(), kAlignment);
    group_bytes = supers + round_up(blocks / kSuperBlocks * form.supers_bytes(), kAlignment);
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
    // Whole ones only: a matrix of a little more than two would otherwise take three.
    if (alignment == kHugePage) madvise(memory_.get(), bytes / kHugePage * kHugePage, MADV_HUGEPAGE);
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

size_t packed_bytes(const TypeTraits& traits, int rows, int columns) {
    return round_up(size_t(rows), kLanes) / kLanes * Planes(traits, columns).group_bytes;
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
    matrix.data = Buffer(packed_bytes(traits, rows, columns));
    return matrix;
}

bool pack_group(PackedMatrix& matrix, int group, const uint8_t* file_rows) {
    const TypeTraits& traits = *matrix.traits;
    const Planes planes(traits, matrix.columns);
    const size_t row_bytes = size_t(matrix.columns) / traits.block_elements * traits.block_bytes;
    uint8_t* out = matrix.data.data() + size_t(group) * matrix.group_bytes;
    bool finite = true;
    for (int lane = 0; lane < kLanes && group * kLanes + lane < matrix.rows; ++lane) {
        const uint8_t* file_row = file_rows + size_t(group * kLanes + lane) * row_bytes;
        finite &= is_quantized(traits.type) ? pack_quantized_row(traits, planes, out, lane, matrix.columns, file_row)
                                            : pack_float_row(traits.type, out, lane, matrix.columns, file_row);
    }
    return finite;
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
