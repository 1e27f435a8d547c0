// What one forward step is asked to do.
#pragma once
#include <cstdint>
#include <span>

#include "shape.h"

namespace madang {

// Token i stands at positions[i] of sequence sequences[i], whose cache pages of group g are page_tables[(sequence * n_groups
// + g) * page_table_stride ...]. A sequence's tokens come in rising order of position, and all earlier positions are in the
// cache, as far as any layer of the group sees back; those of an encoder come all at once. Pages that no token sees are
// named, too, but may be anyone's. Spans per sequence may be empty.
struct Batch {
    std::span<const int32_t> tokens, positions, sequences;
    std::span<const int32_t> page_tables;
    int page_table_stride;
    int n_groups = 1;
    std::span<const int32_t> outputs;  // indices of tokens whose final state is wanted
    bool wants_logits = true;          // of the outputs
    std::span<const int32_t> long_rope = {};      // per sequence: 1 rotates with the long set of frequencies
    std::span<const int32_t> adapters = {};       // per sequence: the id of its adapter, or -1
    std::span<const float> adapter_scales = {};   // per sequence
    std::span<const int32_t> types = {};          // per token: which row of the type embedding; 0 where empty
    bool trace = false;
    bool inputs = false;  // keep what each matrix reads

    int size() const { return int(tokens.size()); }
    size_t n_sequences() const { return page_tables.size() / (size_t(n_groups) * page_table_stride); }
    const int32_t* page_table(int token, int group) const {
        return page_tables.data() + (size_t(sequences[token]) * n_groups + group) * page_table_stride;
    }
    // Whether token t goes on where the one before it stands.
    bool continues(int t) const { return t > 0 && sequences[t] == sequences[t - 1]; }

    // Throws std::invalid_argument when anything is out of range. max_positions is 0 where there is no limit,
    // n_types the rows of the type embedding.
    void check(const DecoderShape& shape, int n_pages, int max_positions, int n_types) const;
};

}  // namespace madang
