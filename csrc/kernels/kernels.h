// The inner loops, one table of functions per instruction set. All sets share kernels.inl and differ in simd_*.h only.
#pragma once
#include <cstdint>

#include "../layout.h"

namespace madang {

struct Range {
    int begin, end;
};

inline Range overlap(Range a, Range b) { return {a.begin > b.begin ? a.begin : b.begin, a.end < b.end ? a.end : b.end}; }

enum class Activation { silu, gelu, gelu_tanh, relu };

// 32 columns of one row, quantized to scale * (128 * high + low) with a scale of largest / 16319. Only blocks that hold
// outliers of their row are `wide`; the others have low bytes of zero, so that whether a kernel reads them changes no bit
// (docs/decisions/0002 has the figures). Sums over the 32 columns and over both halves of 16 turn the zero points and
// minima of weights into one operation per block.
struct QuantizedBlock {
    int8_t high[kBlock], low[kBlock];
    float scale;
    float sum, half_sums[2];           // of the values
    int32_t quants, half_quants[2];    // sums of 128 * high + low
    uint32_t wide;
};

// A batch of input rows in every form that the consuming matrices ask for. Row t starts at t * stride (elements).
struct Activations {
    int stride = 0;  // elements between rows; a multiple of 32
    const float* floats = nullptr;
    const uint16_t* bfloats = nullptr;
    const QuantizedBlock* blocks = nullptr;  // stride / 32 per row
};

// Where a product goes. Output row t starts at t * stride; group g writes columns 16 g to 16 g + 15.
struct Output {
    float* data;
    int stride;
    bool accumulate;  // add to what is there: the residual connection
};

enum class KvType { f16, int8 };

constexpr int kPageTokens = 16;

// Groups of 32 elements of an int8 key that share a scale; a value has one (docs/decisions/0011).
constexpr int key_groups(int head_dim) { return (head_dim + kBlock - 1) / kBlock; }

// One kv head, a tile of query rows that share it. The cache comes in pages of 16 positions: position p lies in page
// pages[page_table[p / 16]], where this layer and head keep keys as [head_dim][16] and values as [16][value_stride] float16.
// Or int8: keys as 16 rows of a packed matrix, [32 key_groups / 4][16][4], and values as above, both followed by their
// float32 scales, [key_groups][16] and [16].
struct AttentionTile {
    int n_queries, head_dim, value_stride;
    const float* const* queries;  // scaled
    float softcap;                // scores become softcap * tanh(score / softcap); 0 is off
    const int* first;             // per query: first visible position
    const int* last;              // per query: last visible position
    const int32_t* page_table;
    const uint8_t* const* pages;
    size_t key_offset, value_offset;  // bytes from the start of a page
    KvType kv_type;
    float* const* outputs;
    float* scratch;               // attention_scratch_floats(head_dim), aligned to 4 bytes
};

constexpr int kMaxQueryTile = 12;
constexpr int kPartition = 256;  // positions between two softmax merges; fixed, so that results do not depend on the batch

constexpr int attention_scratch_floats(int head_dim) {
    constexpr int kBlockFloats = sizeof(QuantizedBlock) / sizeof(float);
    return kMaxQueryTile * (kPartition + 2 * int(round_up(head_dim, kLanes)) + key_groups(head_dim) * kBlockFloats);
}

// A query's weighted values of one partition, the largest score and the sum of the weights.
constexpr int partial_floats(int head_dim) { return int(round_up(head_dim, kLanes)) + 16; }

struct Kernels {
    const char* name;
    int group_tile;      // row groups that are best multiplied together when tokens are many
    bool wants_bfloats;  // BF16 matrices take bfloat16 activations (else float32)
    // Asks for memory that will be read soon, into the second-level cache.
    void (*fetch)(const uint8_t* p, size_t n_bytes);
    void (*multiply)(const PackedMatrix&, Range groups, const Activations&, Range tokens, const Output&);
    // x and weight of n (zero-padded to 16); y = x / sqrt(mean(x^2) + epsilon) * weight
    void (*rms_norm)(const float* x, const float* weight, float* y, int n, float epsilon);
    // One row. A block is wide when its largest magnitude exceeds `outlier` times the row's mean of such; n is a multiple
    // of 32.
    void (*quantize)(const float* x, int n, float outlier, QuantizedBlock* blocks);
    void (*to_bfloat)(const float* x, int n, uint16_t* y);
    // The same of x; y = (x - mean) / sqrt(variance + epsilon) * weight + bias, where there is a bias
    void (*layer_norm)(const float* x, const float* weight, const float* bias, float* y, int n, float epsilon);
    // x = activation(x), times `up` where there is one; n is a multiple of 16
    void (*activate)(Activation, float* x, const float* up, int n);
    // x = cap * tanh(x / cap); n is a multiple of 16
    void (*soft_cap)(float* x, int n, float cap);
    void (*attend)(const AttentionTile&);
    // The same in two steps, for several threads at one tile: what its queries see of some partitions, partial_floats() per
    // partition and query; and of one query, its partitions merged in order, `stride` floats apart. The bits are the same.
    void (*attend_some)(const AttentionTile&, Range partitions, float* partials);
    void (*merge_partials)(const float* partials, size_t stride, int n_partitions, int head_dim, float* scratch, float* out);
    void (*to_half)(const float* x, int n, uint16_t* y);
    // y = x / scale, rounded; the scale is the largest magnitude / 127. n is a multiple of 16.
    float (*to_int8)(const float* x, int n, int8_t* y);
    float (*max)(const float* x, int n);
    // y = exp((x - max) * scale), returns the sum of y
    float (*exponentials)(const float* x, float max, float scale, float* y, int n);
};

// In order of preference; an entry is there when the compiler could build it.
extern const Kernels kPortable;
#if defined(MADANG_X86)
extern const Kernels kAvx2, kAvx2Vnni, kAvx512, kAvx512Bf16;
#elif defined(MADANG_ARM64)
extern const Kernels kNeon;
#endif

}  // namespace madang
