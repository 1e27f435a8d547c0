// How weights lie in memory once loaded. One layout serves every instruction set.
//
// Rows are taken in groups of 16, one per vector lane. Within a group, columns advance in blocks of 32 (quantized types) so
// that one 64-byte vector holds, for each of the 16 rows, 4 consecutive columns: what a 4-way int8 dot product consumes
// against 4 broadcast activations. No horizontal sum is ever needed, and each output is accumulated in one fixed order
// however many tokens are in the batch.
//
// A group of a quantized matrix is a few planes, each padded to 64 bytes:
//     quants   per block: 8 vectors of 4 columns; 4-bit types pack vector j in the low and j+4 in the high nibbles of one
//     high     per block: 5-bit types 8 x 64 mask bits; 6-bit types 2 vectors of four 2-bit fields
//     scales   per block: 16 (Q6_K: 2 x 16) values; float16, or the small integers of K-types
//     mins     per block: 16 values, where the type has them
//     supers   per 8 blocks: 16 float16 scales (and 16 float16 min scales), K-types only
// F32 and F16 groups are [column][16 rows]; BF16 groups are [column pair][16 rows][2].
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

namespace madang {

constexpr int kLanes = 16;         // rows in a group
constexpr int kBlock = 32;         // columns in a block
constexpr int kSuperBlocks = 8;    // blocks in a K-type super-block
constexpr int kMaxColumns = 1 << 17;  // of a matrix
constexpr size_t kAlignment = 64;  // of every plane

// Ids as in the GGUF specification; only the types that this engine runs.
enum class Type : uint32_t {
    F32 = 0, F16 = 1, Q4_0 = 2, Q4_1 = 3, Q5_0 = 6, Q5_1 = 7, Q8_0 = 8, Q4_K = 12, Q5_K = 13, Q6_K = 14, BF16 = 30,
};

// What a type costs in its file and in each plane of a packed block (16 rows x 32 columns).
struct TypeTraits {
    Type type;
    int block_elements, block_bytes;  // in the file
    int quants, high, scales, mins, supers;
};

// nullptr when the type is unknown to this engine.
const TypeTraits* find_traits(uint32_t type);
std::span<const TypeTraits> all_traits();

constexpr size_t round_up(size_t n, size_t multiple) { return (n + multiple - 1) / multiple * multiple; }

inline bool is_quantized(Type type) { return type != Type::F32 && type != Type::F16 && type != Type::BF16; }

// Byte offsets of the planes within a group, and the group's whole size.
struct Planes {
    size_t quants = 0, high, scales, mins, supers, group_bytes;
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

// Allocates the matrix; pack_group then fills its groups, in any order and from any thread.
PackedMatrix allocate_matrix(const TypeTraits& traits, int rows, int columns);
void pack_group(PackedMatrix& matrix, int group, const uint8_t* file_rows);

// One row back to float32: what an embedding lookup needs.
void unpack_row(const PackedMatrix& matrix, int row, float* out);

}  // namespace madang
