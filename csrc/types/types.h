// Tensor types as files hold them: their ids, the sizes of their blocks, and how to read one row's block.
//
// Sources: the GGUF specification and its reference implementation (ggml-org/ggml, docs/gguf.md; gguf-py, quants.py).
#pragma once
#include <cstdint>
#include <cstring>
#include <span>

namespace madang {

constexpr int kBlock = 32;       // columns in a packed block
constexpr int kSuperBlocks = 8;  // blocks in a super-block

// Ids as in the GGUF specification; only the types that this engine runs.
enum class Type : uint32_t {
    F32 = 0, F16 = 1, Q4_0 = 2, Q4_1 = 3, Q5_0 = 6, Q5_1 = 7, Q8_0 = 8, Q2_K = 10, Q3_K = 11, Q4_K = 12, Q5_K = 13, Q6_K = 14,
    IQ2_XXS = 16, IQ2_XS = 17, IQ3_XXS = 18, IQ1_S = 19, IQ4_NL = 20, IQ3_S = 21, IQ2_S = 22, IQ4_XS = 23, IQ1_M = 29, BF16 = 30,
    TQ1_0 = 34, TQ2_0 = 35, MXFP4 = 39,
};

// 32 columns of one row, between file and lanes. What the fields hold is the form's (layout.h) to say.
struct RowBlock {
    uint8_t quants[kBlock];
    uint16_t scale = 0, min = 0;  // float16: the block's, or its super-block's
    uint8_t small_scales[2] = {0, 0}, small_min = 0;
};

// Reads the 32 columns from 32 j of a file's block.
using ReadBlock = void (*)(const uint8_t* block, int j, RowBlock& out);

struct TypeTraits {
    Type file_type;
    int block_elements, block_bytes;  // in the file
    Type type;                        // whose form it has in memory
    ReadBlock read = nullptr;         // nullptr for floats
    const int8_t* codes = nullptr;    // 16 of them, in coded forms
    float factor = 1;                 // a power of two to multiply Signed scales of coded forms with
};

// nullptr when the type is unknown to this engine.
const TypeTraits* find_traits(uint32_t type);
std::span<const TypeTraits> all_traits();

inline uint16_t read_u16(const uint8_t* p) {
    uint16_t value;
    std::memcpy(&value, p, 2);
    return value;
}

inline uint32_t read_u32(const uint8_t* p) {
    uint32_t value;
    std::memcpy(&value, p, 4);
    return value;
}

// 16 bytes whose low nibbles are columns 0 to 15 and high ones 16 to 31.
inline void read_nibbles(const uint8_t* packed, uint8_t* quants) {
    for (int i = 0; i < 16; ++i) {
        quants[i] = packed[i] & 15;
        quants[i + 16] = packed[i] >> 4;
    }
}

// Fields j % 4 of 2 bits in the 32 bytes j / 4: how all 2-bit types lie in files.
inline void read_pairs(const uint8_t* packed, int j, uint8_t* quants) {
    for (int i = 0; i < kBlock; ++i) quants[i] = packed[j / 4 * 32 + i] >> (j % 4 * 2) & 3;
}

// Each in the file of its family.
void read_q4_0(const uint8_t*, int, RowBlock&);
void read_q4_1(const uint8_t*, int, RowBlock&);
void read_q5_0(const uint8_t*, int, RowBlock&);
void read_q5_1(const uint8_t*, int, RowBlock&);
void read_q8_0(const uint8_t*, int, RowBlock&);
void read_mxfp4(const uint8_t*, int, RowBlock&);
void read_q2_k(const uint8_t*, int, RowBlock&);
void read_q3_k(const uint8_t*, int, RowBlock&);
void read_q4_k(const uint8_t*, int, RowBlock&);
void read_q5_k(const uint8_t*, int, RowBlock&);
void read_q6_k(const uint8_t*, int, RowBlock&);
void read_iq4_xs(const uint8_t*, int, RowBlock&);
void read_tq1_0(const uint8_t*, int, RowBlock&);
void read_tq2_0(const uint8_t*, int, RowBlock&);
void read_iq1_s(const uint8_t*, int, RowBlock&);
void read_iq1_m(const uint8_t*, int, RowBlock&);
void read_iq2_xxs(const uint8_t*, int, RowBlock&);
void read_iq2_xs(const uint8_t*, int, RowBlock&);
void read_iq2_s(const uint8_t*, int, RowBlock&);
void read_iq3_xxs(const uint8_t*, int, RowBlock&);
void read_iq3_s(const uint8_t*, int, RowBlock&);

}  // namespace madang
