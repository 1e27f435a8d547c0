#include "batch.h"

#include <stdexcept>
#include <vector>

namespace madang {

namespace {

void require(bool good, const char* what) {
    if (!good) throw std::invalid_argument(what);
}

void check_lengths(const Batch& batch) {
    const size_t n = batch.tokens.size();
    require(n > 0 && batch.positions.size() == n && batch.sequences.size() == n,
            "a batch needs tokens, positions and sequences of one length");
    require(batch.page_table_stride > 0, "a batch needs page tables");
    require(batch.page_tables.size() / size_t(batch.page_table_stride) % size_t(batch.n_groups) == 0,
            "each sequence needs a page table for each group of layers");
    const size_t n_sequences = batch.n_sequences();
    require(batch.long_rope.empty() || batch.long_rope.size() == n_sequences, "long_rope needs one entry per sequence");
    require(batch.adapters.empty() || batch.adapters.size() == n_sequences, "adapters needs one entry per sequence");
    require(batch.types.empty() || batch.types.size() == n, "types needs one entry per token");
    require(batch.adapter_scales.size() == batch.adapters.size(), "adapters need one scale each");
}

void check_pages(const int32_t* table, int first, int last, int n_pages) {
    for (int p = first; p <= last; ++p) require(table[p] >= 0 && table[p] < n_pages, "a page does not exist");
}

// An encoder sees all of a sequence, so it must be here as a whole.
void check_whole(const Batch& batch) {
    std::vector<bool> seen(batch.n_sequences());
    for (int t = 0; t < batch.size(); ++t) {
        if (batch.continues(t)) continue;
        require(batch.positions[t] == 0 && !seen[size_t(batch.sequences[t])], "an encoder reads a whole sequence in one step");
        seen[size_t(batch.sequences[t])] = true;
    }
}

}  // namespace

void Batch::check(const DecoderShape& shape, int n_pages, int max_positions, int n_types) const {
    check_lengths(*this);
    for (int t = 0; t < size(); ++t) {
        require(tokens[t] >= 0 && tokens[t] < shape.vocab_size, "a token id is outside of the vocabulary");
        require(sequences[t] >= 0 && size_t(sequences[t]) < n_sequences(), "a sequence has no page table");
        require(positions[t] >= 0 && positions[t] / kPageTokens < page_table_stride, "a position is beyond its page table");
        require(max_positions == 0 || positions[t] < max_positions,
                "a position is beyond the positions that the model has learned");
        require(!continues(t) || positions[t] == positions[t - 1] + 1, "the tokens of a sequence must be consecutive");
        for (int group = 0; group < n_groups; ++group)
            check_pages(page_table(t, group), continues(t) ? positions[t] / kPageTokens : 0, positions[t] / kPageTokens, n_pages);
    }
    for (const int32_t type : types) require(type >= 0 && type < n_types, "a token has a type that the model has not learned");
    for (const int32_t output : outputs) require(output >= 0 && output < size(), "an output is not in the batch");
    if (!shape.causal) check_whole(*this);
}

}  // namespace madang
