#include "attention.h"

#include <cmath>

namespace madang {

Attention::Attention(const DecoderShape& shape, const Kernels& kernels, Cache& cache, int n_threads)
    : shape_(shape), kernels_(kernels), cache_(cache), scratch_(size_t(n_threads)) {
    for (Scratch& scratch : scratch_) {
        scratch.attention.resize(size_t(attention_scratch_floats(shape.head_dim)));
        scratch.padded.resize(size_t(cache.value_stride()));
        scratch.halves.resize(size_t(cache.value_stride()));
    }
}

void Attention::resize(int n_tokens) {
    for (Rows* rows : {&query, &key, &value, &attended}) rows->resize(n_tokens);
    angles_.resize(size_t(n_tokens) * 2 * shape_.inverse_frequencies.size());
}

void Attention::prepare(const Batch& batch) {
    batch_ = &batch;
    const int n = batch.size();
    const size_t pairs = shape_.inverse_frequencies.size();
    for (int t = 0; t < n; ++t)
        for (size_t i = 0; i < pairs; ++i) {
            const double angle = double(batch.positions[t]) * shape_.inverse_frequencies[i];
            angles_[(size_t(t) * 2) * pairs + i] = float(std::cos(angle)) * shape_.rope_magnitude;
            angles_[(size_t(t) * 2 + 1) * pairs + i] = float(std::sin(angle)) * shape_.rope_magnitude;
        }
    tiles_.clear();
    const int tile = std::max(1, kMaxQueryTile / heads_per_unit());
    for (int t = 0; t < n; ++t) {
        const bool joins = !tiles_.empty() && batch.sequences[t] == batch.sequences[t - 1] && t - tiles_.back().begin < tile;
        if (joins) tiles_.back().end = t + 1;
        else tiles_.push_back({t, t + 1});
    }
}

void Attention::rotate(float* head, int token) const {
    const int pairs = int(shape_.inverse_frequencies.size());
    const float* cosines = angles_.data() + size_t(token) * 2 * pairs;
    const float* sines = cosines + pairs;
    const int step = shape_.rope_interleaved ? 2 : 1, partner = shape_.rope_interleaved ? 1 : pairs;
    for (int i = 0; i < pairs; ++i) {
        const float a = head[i * step], b = head[i * step + partner];
        head[i * step] = a * cosines[i] - b * sines[i];
        head[i * step + partner] = a * sines[i] + b * cosines[i];
    }
}

void Attention::store(int layer, int token, int thread) {
    const float scale = 1.0f / std::sqrt(float(shape_.head_dim));
    for (int h = 0; h < shape_.n_heads; ++h) {
        float* head = query.row(token) + h * shape_.head_dim;
        rotate(head, token);
        for (int d = 0; d < shape_.head_dim; ++d) head[d] *= scale;
    }
    const int position = batch_->positions[token], slot = position % kPageTokens;
    uint16_t* page = cache_.page(batch_->page_table(token)[position / kPageTokens]);
    Scratch& scratch = scratch_[thread];
    float* padded = scratch.padded.data();  // its end stays 0
    uint16_t* halves = scratch.halves.data();
    for (int h = 0; h < shape_.n_kv_heads; ++h) {
        uint16_t* keys = page + cache_.key_offset(layer, h);
        uint16_t* values = page + cache_.value_offset(layer, h) + size_t(slot) * cache_.value_stride();
        float* head = key.row(token) + h * shape_.head_dim;
        rotate(head, token);
        std::copy(head, head + shape_.head_dim, padded);
        kernels_.to_half(padded, cache_.value_stride(), halves);
        for (int d = 0; d < shape_.head_dim; ++d) keys[d * kPageTokens + slot] = halves[d];
        head = value.row(token) + h * shape_.head_dim;
        std::copy(head, head + shape_.head_dim, padded);
        kernels_.to_half(padded, cache_.value_stride(), values);
    }
}

void Attention::attend(int layer, int unit, int thread) {
    const int per_tile = shape_.n_kv_heads * units_per_kv();
    const QueryTile& queries = tiles_[unit / per_tile];
    const int kv_head = unit % per_tile / units_per_kv(), first_in_group = unit % units_per_kv() * heads_per_unit();
    const int n_heads = std::min(heads_per_unit(), shape_.heads_per_kv() - first_in_group);
    const int first_head = kv_head * shape_.heads_per_kv() + first_in_group;
    const float* rows[kMaxQueryTile];
    float* outputs[kMaxQueryTile];
    int first[kMaxQueryTile], last[kMaxQueryTile], n = 0;
    for (int t = queries.begin; t < queries.end; ++t)
        for (int h = first_head; h < first_head + n_heads; ++h, ++n) {
            rows[n] = query.row(t) + h * shape_.head_dim;
            outputs[n] = attended.row(t) + h * shape_.head_dim;
            last[n] = batch_->positions[t];
            const int window = shape_.window_tokens[layer];
            first[n] = window > 0 ? std::max(0, last[n] + 1 - window) : 0;
        }
    kernels_.attend({n, shape_.head_dim, cache_.value_stride(), rows, first, last, batch_->page_table(queries.begin),
                     cache_.pages(), cache_.key_offset(layer, kv_head), cache_.value_offset(layer, kv_head), outputs,
                     scratch_[thread].attention.data()});
}

}  // namespace madang
