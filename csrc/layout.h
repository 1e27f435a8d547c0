// How weights lie in memory once loaded. One layout serves every instruction set.
//
// Rows are taken in groups of 16, one per vector lane. Within a group, columns advance in blocks of 32 (quantized types) so
// that one 64-byte vector holds, for each of the 16 rows, 4 consecutive columns: what a 4-way int8 dot product consumes
// against 4 broadcast activations. No horizontal sum is ever needed, and each output is accumulated in one fixed order
// however many tokens are in the batch.
//
// A group of a quantized matrix is a few planes, each padded to 64 bytes:
//     quants   per block, the low bits of 8 vectors of 4 columns: 8 vectors of bytes; or 4 of nibbles, vector j in the low and
//              j + 4 in the high ones; or 2 of four 2-bit fields, vector 4 v + f in field f of v
//     high     per block, the bits above those: one each, 8 x 64 mask bits; or two each, as 2 vectors of four 2-bit fields
//     scales   per block: 16 values, or 2 x 16 where half blocks of 16 columns have their own
//     mins     per block: 16 values, where the type has them
//     supers   per 8 blocks: 16 float16 scales of the scales (and 16 of the mins)
// F32 and F16 groups are [column][16 rows]; BF16 groups are [column pair][16 rows][2].
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>

#include "types/types.h"

namespace madang {

constexpr int kLanes = 16;         // rows in a group
constexpr int kMaxColumns = 1 << 17;  // of a matrix
constexpr size_t kAlignment = 64;  // of every plane

enum class Scale : uint8_t {
    None,      // floats
    Half,      // float16
    Exponent,  // a byte x stands for 2^(x - 128): half of E8M0, whose 255 is not a number
    Super,     // the super-block's alone
    Signed,    // int8 times the super-block's
    Unsigned,  // uint8 times the super-block's
    Nibbles,   // the low 4 bits times the super-block's scale, and the high 4 times its min scale
};

enum class Minimum : uint8_t {
    Offset,  // the form's constant times the scale
    Half,    // float16
    Super,   // minus (uint8, or the Nibbles of the scales) times the super-block's
};

// What a packed block of 16 rows x 32 columns is made of: value = scale * (quant or code) + min.
struct Form {
    int bits = 0, high_bits = 0;  // of a quant, in the planes `quants` and `high`; 8 are signed
    Scale scale = Scale::None;
    Minimum minimum = Minimum::Offset;
    int offset = 0;
    bool halves = false;  // a scale per 16 columns
    bool coded = false;   // quants are indices into the 16 signed codes of the type

    constexpr bool has_supers() const { return scale >= Scale::Super; }
    constexpr int quants_bytes() const { return bits * 64; }
    constexpr int high_bytes() const { return high_bits * 64; }
    constexpr int scales_bytes() const {
        return scale == Scale::None || scale == Scale::Super ? 0 : kLanes * (halves ? 2 : 1) * (scale == Scale::Half ? 2 : 1);
    }
    constexpr int mins_bytes() const {
        if (minimum == Minimum::Offset || scale == Scale::Nibbles) return 0;
        return minimum == Minimum::Half ? 2 * kLanes : kLanes;
    }
    constexpr int supers_bytes() const { return !has_supers() ? 0 : minimum == Minimum::Super ? 4 * kLanes : 2 * kLanes; }
};

// Of the types that matrices have in memory (TypeTraits::type); every other type lies as one of these.
constexpr Form form_of(Type type) {
    switch (type) {
        case Type::Q4_0: return {4, 0, Scale::Half, Minimum::Offset, -8};
        case Type::Q4_1: return {4, 0, Scale::Half, Minimum::Half};
        case Type::Q5_0: return {4, 1, Scale::Half, Minimum::Offset, -16};
        case Type::Q5_1: return {4, 1, Scale::Half, Minimum::Half};
        case Type::Q8_0: return {8, 0, Scale::Half};
        case Type::Q2_K: return {2, 0, Scale::Nibbles, Minimum::Super, 0, true};
        case Type::Q3_K: return {2, 1, Scale::Signed, Minimum::Offset, -4, true};
        case Type::Q4_K: return {4, 0, Scale::Unsigned, Minimum::Super};
        case Type::Q5_K: return {4, 1, Scale::Unsigned, Minimum::Super};
        case Type::Q6_K: return {4, 2, Scale::Signed, Minimum::Offset, -32, true};
        case Type::TQ2_0: return {2, 0, Scale::Super, Minimum::Offset, -1};
        case Type::IQ4_NL: return {4, 0, Scale::Half, Minimum::Offset, 0, false, true};
        case Type::MXFP4: return {4, 0, Scale::Exponent, Minimum::Offset, 0, false, true};
        case Type::IQ4_XS: return {4, 0, Scale::Signed, Minimum::Offset, 0, false, true};
        case Type::IQ2_XXS: return {2, 1, Scale::Signed, Minimum::Offset, 0, false, true};
        case Type::IQ2_XS: return {2, 1, Scale::Signed, Minimum::Offset, 0, true, true};
        default: return {};
    }
}

constexpr size_t round_up(size_t n, size_t multiple) { return (n + multiple - 1) / multiple * multiple; }

inline bool is_quantized(Type type) { return form_of(type).bits != 0; }

// Byte offsets of the planes within a group, and the group's whole size.
struct Planes {
    size_t quants = 0, high = 0, scales = 0, mins = 0, supers = 0, group_bytes = 0;
    Planes(const TypeTraits& traits, int columns);
};

// Memory aligned for vectors, on huge pages where the system offers them.
class Buffer {
public:
    Buffer() = default;
    explicit Buffer(size_t bytes);
    uint8_t* data() const { return memory_.get(); }
    size_t size() const { return bytes_; }

private:
    struct Free { void operator()(uint8_t*) const; };
    std::unique_ptr<uint8_t, Free> memory_;
    size_t bytes_ = 0;
};

// A weight matrix of n_out x n_in in packed form.
struct PackedMatrix {
    const TypeTraits* traits = nullptr;
    int rows = 0, columns = 0;
    Buffer data;
    size_t group_bytes = 0;

    bool empty() const { return rows == 0; }
    Type type() const { return traits->type; }
    int groups() const { return (rows + kLanes - 1) / kLanes; }
    int padded_rows() const { return groups() * kLanes; }
    const uint8_t* group(int index) const { return data.data() + size_t(index) * group_bytes; }
};

// What a matrix takes in memory.
size_t packed_bytes(const TypeTraits& traits, int rows, int columns);

// Allocates the matrix; pack_group then fills its groups, in any order and from any thread. It is false when a weight of
// the group is infinite or not a number.
PackedMatrix allocate_matrix(const TypeTraits& traits, int rows, int columns);
[[nodiscard]] bool pack_group(PackedMatrix& matrix, int group, const uint8_t* file_rows);

// One row back to float32: what an embedding lookup needs.
void unpack_row(const PackedMatrix& matrix, int row, float* out);

}  // namespace madang
