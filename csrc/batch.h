// What one forward step is asked to do.
#pragma once
#include <cstdint>
#include <span>

#include "kernels/kernels.h"

namespace madang {

// Token i stands at positions[i] of sequence sequences[i], whose cache pages are page_tables[sequence * page_table_stride
// ...]. A sequence's tokens come in rising order of position, and all earlier positions are in the cache.
struct Batch {
    std::span<const int32_t> tokens, positions, sequences;
    std::span<const int32_t> page_tables;
    int page_table_stride;
    std::span<const int32_t> outputs;  // indices of tokens whose logits are wanted

    int size() const { return int(tokens.size()); }
    size_t n_sequences() const { return page_tables.size() / size_t(page_table_stride); }
    const int32_t* page_table(int token) const { return page_tables.data() + size_t(sequences[token]) * page_table_stride; }
};

}  // namespace madang
