// Float rows into blocks of a file's type: the smallest weighted squared error that its fields can express, nearly.
//
// Two halves. A fit (search.inl, one compilation per instruction set, the same bits from each) finds the numbers of a block;
// packing (packing.cpp) puts them where the format wants them, the opposite of csrc/types.
#pragma once
#include <cstdint>
#include <string>

#include "../layout.h"
#include "../thread_pool.h"

namespace madang {

constexpr int kLargestBlock = 256;

// The numbers of one block, before they are packed.
struct BlockFields {
    uint16_t scale = 0, min = 0;                   // float16
    int8_t small_scales[16] = {};                  // signed as they multiply
    uint8_t small_mins[16] = {};
    uint8_t quants[kLargestBlock] = {};            // as they lie in the file: never negative, but for Q8_0
};

// Writes a block of the type; nullptr for a type without quantizer.
using PackBlock = void (*)(const BlockFields&, uint8_t* block);
PackBlock packer_of(Type type);

// kLanes lanes are fitted together; each is `columns` long, and `per_block` of them make a block.
struct FitShape {
    int columns = 0, per_block = 0;

    int blocks() const { return kLanes / per_block; }
    int elements() const { return kLanes * columns; }
};
FitShape fit_shape(Type type);

// Fits 16 lanes. values and weights: [lane][column]; fields: the blocks of those lanes.
using Fit = void (*)(const float* values, const float* weights, BlockFields* fields);

// A block of kLanes rows whose scales are chosen, on its way to quants. Lanes are rows: [column][row].
struct RowsOfBlock {
    float* values;                // [columns][kLanes]; what is left to say of each column
    const float *scales, *mins;   // [sub-blocks][kLanes]
    int columns, sub_columns;     // of the block, and of a sub-block
    float* errors;                // out: [columns][kLanes], what rounding took
    uint8_t* quants;              // out: [columns][kLanes]
};
// Rounds column after column. What one loses is taken from the columns after it: column k gives passed_on[k * stride + j] of
// what column j lost.
using RoundRows = void (*)(const RowsOfBlock& block, const float* passed_on, int64_t stride);
// The same for columns behind the block, [n_columns][kLanes] from `values` on.
using PassOn = void (*)(const RowsOfBlock& block, const float* passed_on, int64_t stride, float* values, int64_t n_columns);

struct Quantizers {
    const char* name;
    Fit (*fit_of)(Type type);  // nullptr for a type without quantizer
    RoundRows (*rounder_of)(Type type);
    PassOn pass_on;
};

// The quantizers of the instruction set with that name, as select_kernels (cpu.h) understands it.
const Quantizers& select_quantizers(const std::string& isa);

struct RowsToQuantize {
    const float* values;      // [rows][columns]
    const float* importance;  // [columns]; nullptr when every column counts the same
    int64_t rows, columns;
    const float* passed_on = nullptr;  // [columns][columns], lower triangle: for error feedback
};

// Writes rows x columns / block_elements blocks. Columns must be a multiple of the type's block, values finite. Throws
// std::invalid_argument for a type without quantizer.
void quantize_rows(const Quantizers& quantizers, Type type, const RowsToQuantize& rows, ThreadPool& pool, uint8_t* blocks);

extern const Quantizers kPortableQuantizers;
#if defined(MADANG_X86)
extern const Quantizers kAvx2Quantizers, kAvx512Quantizers;
#elif defined(MADANG_ARM64)
extern const Quantizers kNeonQuantizers;
#endif

}  // namespace madang
