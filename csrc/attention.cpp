#include "attention.h"

#include <cmath>

namespace madang {

Attention::Attention(const DecoderShape& shape, const Kernels& kernels, Cache& cache, int n_threads)
    : shape_(shape), kernels_(kernels), cache_(cache), angles_(shape.ropes.size()),
      scale_(shape.attention_scale.value_or(1.0f / std::sqrt(float(shape.head_dim)))), scratch_(size_t(n_threads)) {
    for (Scratch& scratch : scratch_) {
        scratch.attention.resize(size_t(attention_scratch_floats(shape.head_dim)));
        scratch.padded.resize(size_t(cache.padded_head()));
        scratch.elements.resize(size_t(cache.padded_head()) * sizeof(uint16_t));
    }
}

void Attention::resize(int n_tokens) {
    for (Rows* rows : {&query, &key, &value, &attended}) rows->resize(n_tokens);
}

void Attention::set_angles(const Rope& rope, const Rope* long_rope, std::vector<float>& angles) const {
    const size_t pairs = size_t(rope.pairs());
    angles.resize(std::max(angles.size(), size_t(batch_->size()) * 2 * pairs));
    for (int t = 0; t < batch_->size(); ++t) {
        const bool is_long = !batch_->long_rope.empty() && batch_->long_rope[batch_->sequences[t]] != 0;
        const Rope& used = is_long && long_rope ? *long_rope : rope;
        float* cosines = angles.data() + size_t(t) * 2 * pairs;
        for (size_t i = 0; i < pairs; ++i) {
            const double angle = double(batch_->positions[t]) * used.inverse_frequencies[i];
            cosines[i] = float(std::cos(angle)) * used.magnitude;
            cosines[pairs + i] = float(std::sin(angle)) * used.magnitude;
        }
    }
}

void Attention::prepare(const Batch& batch, int part_tokens) {
    batch_ = &batch;
    const int n = batch.size();
    for (size_t i = 0; i < shape_.ropes.size(); ++i)
        set_angles(shape_.ropes[i], shape_.long_rope ? &*shape_.long_rope : nullptr, angles_[i]);
    tiles_.clear();
    tile_of_.clear();
    const int tile = std::max(1, kMaxQueryTile / heads_per_unit());
    for (int t = 0; t < n; ++t) {
        const bool begins_part = part_tokens > 0 && t % part_tokens == 0;
        if (batch.continues(t) && !begins_part && t - tiles_.back().begin < tile) tiles_.back().end = t + 1;
        else tiles_.push_back({t, t + 1});
        tile_of_.push_back(int(tiles_.size()) - 1);
    }
    choose_split(part_tokens);
    if (shape_.causal) return;
    last_position_.resize(size_t(n));
    for (int t = n - 1; t >= 0; --t)
        last_position_[size_t(t)] = t + 1 < n && batch.continues(t + 1) ? last_position_[size_t(t) + 1] : batch.positions[t];
}

void Attention::rotate(int rope, float* head, int token) const {
    const Rope& how = shape_.ropes[size_t(rope)];
    const int pairs = how.pairs();
    const float* cosines = angles_[size_t(rope)].data() + size_t(token) * 2 * pairs;
    const float* sines = cosines + pairs;
    const auto turn = [&](float& a, float& b, int i) {
        const float x = a, y = b;
        a = x * cosines[i] - y * sines[i];
        b = x * sines[i] + y * cosines[i];
    };
    if (how.interleaved)
        for (int i = 0; i < pairs; ++i) turn(head[2 * i], head[2 * i + 1], i);
    else
        for (int i = 0; i < pairs; ++i) turn(head[i], head[i + pairs], i);
}

void Attention::normalize_heads(const Norm& norm, float* row, int n_heads, float* padded) const {
    const int n = shape_.head_dim;
    for (int h = 0; h < n_heads; ++h, row += n) {
        std::copy(row, row + n, padded);
        norm.apply(shape_, kernels_, padded, padded, n, h);
        std::copy(padded, padded + n, row);
    }
    std::fill(padded, padded + cache_.padded_head(), 0.0f);
}

void Attention::store(const Layer& layer, int index, int token, int thread) {
    Scratch& scratch = scratch_[thread];
    float* padded = scratch.padded.data();  // beyond head_dim it stays 0
    const int n = shape_.head_dim, rope = shape_.layer_ropes[size_t(index)];
    if (!layer.query_norm.empty()) normalize_heads(layer.query_norm, query.row(token), shape_.n_heads, padded);
    if (!layer.key_norm.empty()) normalize_heads(layer.key_norm, key.row(token), shape_.n_kv_heads, padded);
    for (int h = 0; h < shape_.n_heads; ++h) {
        float* head = query.row(token) + h * n;
        if (rope >= 0) rotate(rope, head, token);
        for (int d = 0; d < n; ++d) head[d] *= scale_;
    }
    const int position = batch_->positions[token], slot = position % kPageTokens;
    const int page = batch_->page_table(token, cache_.group(index))[position / kPageTokens];
    for (int h = 0; h < shape_.n_kv_heads; ++h) {
        const Cache::Place place{index, h, page, slot};
        float* head = key.row(token) + h * n;
        if (rope >= 0) rotate(rope, head, token);
        std::copy(head, head + n, padded);
        cache_.put_key(kernels_, place, padded, scratch.elements.data());
        head = value.row(token) + h * n;
        std::copy(head, head + n, padded);
        cache_.put_value(kernels_, place, padded);
    }
}

// With a window, an encoder sees as far ahead as back.
Range Attention::visible(int layer, int token) const {
    const int position = batch_->positions[token], window = shape_.window_tokens[size_t(layer)];
    const int first = window > 0 ? std::max(0, position + 1 - window) : 0;
    if (shape_.causal) return {first, position + 1};
    const int64_t ahead = window > 0 ? int64_t(position) + window - 1 : INT32_MAX;
    return {first, int(std::min<int64_t>(last_position_[size_t(token)], ahead)) + 1};
}

Range Attention::heads_of(int head_unit) const {
    const int kv_head = head_unit / units_per_kv(), first_in_group = head_unit % units_per_kv() * heads_per_unit();
    const int first = kv_head * shape_.heads_per_kv() + first_in_group;
    return {first, first + std::min(heads_per_unit(), shape_.heads_per_kv() - first_in_group)};
}

AttentionTile Attention::lay_out(int layer, int tile, int head_unit, int thread, Queries& queries) {
    const Range tokens = tiles_[size_t(tile)], heads = heads_of(head_unit);
    const int kv_head = head_unit / units_per_kv();
    for (int t = tokens.begin; t < tokens.end; ++t)
        for (int h = heads.begin; h < heads.end; ++h, ++queries.n) {
            queries.rows[queries.n] = query.row(t) + h * shape_.head_dim;
            queries.outputs[queries.n] = attended.row(t) + h * shape_.head_dim;
            const Range range = visible(layer, t);
            queries.first[queries.n] = range.begin;
            queries.last[queries.n] = range.end - 1;
        }
    return {.n_queries = queries.n,
            .head_dim = shape_.head_dim,
            .value_stride = cache_.value_stride(),
            .queries = queries.rows,
            .softcap = shape_.attention_softcap.value_or(0.0f),
            .first = queries.first,
            .last = queries.last,
            .page_table = batch_->page_table(tokens.begin, cache_.group(layer)),
            .pages = cache_.pages(),
            .key_offset = cache_.key_offset(layer, kv_head),
            .value_offset = cache_.value_offset(layer, kv_head),
            .kv_type = cache_.type(),
            .outputs = queries.outputs,
            .scratch = scratch_[size_t(thread)].attention.data()};
}

void Attention::attend(int layer, int tile, int head_unit, int thread) {
    Queries queries;
    kernels_.attend(lay_out(layer, tile, head_unit, thread, queries));
}

// ---- partitions of few tiles -----------------------------------------------------------------------------------------

void Attention::choose_split(int part_tokens) {
    constexpr int kEnoughUnits = 4, kFewPartitions = 4;  // per thread; with fewer partitions another barrier costs more
    n_partitions_ = 0;
    const int units = int(tiles_.size()) * head_units();
    if (part_tokens > 0 || units >= kEnoughUnits * int(scratch_.size())) return;
    const int longest = *std::max_element(batch_->positions.begin(), batch_->positions.end()) / kPartition + 1;
    if (longest < kFewPartitions || scratch_.size() == 1) return;
    n_partitions_ = longest;
    partials_.resize(std::max(partials_.size(), size_t(pieces()) * kMaxQueryTile * partial_floats(shape_.head_dim)));
}

float* Attention::partials(int tile, int head_unit) {
    const size_t unit = size_t(tile) * size_t(head_units()) + size_t(head_unit);
    return partials_.data() + unit * n_partitions_ * kMaxQueryTile * partial_floats(shape_.head_dim);
}

void Attention::attend_pieces(int layer, Range pieces, int thread) {
    for (int at = pieces.begin; at < pieces.end;) {
        const int unit = at / n_partitions_, first = at % n_partitions_, tile = unit / head_units(), head_unit = unit % head_units();
        const Range partitions{first, std::min(n_partitions_, first + pieces.end - at)};
        Queries queries;
        kernels_.attend_some(lay_out(layer, tile, head_unit, thread, queries), partitions, partials(tile, head_unit));
        at += partitions.end - partitions.begin;
    }
}

void Attention::merge(int layer, int token, int thread) {
    const int tile = tile_of_[size_t(token)], first_token = tiles_[size_t(tile)].begin;
    const int n_tokens = tiles_[size_t(tile)].end - first_token, floats = partial_floats(shape_.head_dim);
    const Range seen = visible(layer, token), partitions{seen.begin / kPartition, (seen.end - 1) / kPartition + 1};
    for (int unit = 0; unit < head_units(); ++unit) {
        const Range heads = heads_of(unit);
        const int n_heads = heads.end - heads.begin;
        const size_t stride = size_t(n_tokens) * n_heads * floats;
        for (int h = heads.begin; h < heads.end; ++h) {
            const int q = (token - first_token) * n_heads + h - heads.begin;
            const float* own = partials(tile, unit) + partitions.begin * stride + size_t(q) * floats;
            kernels_.merge_partials(own, stride, partitions.end - partitions.begin, shape_.head_dim,
                                    scratch_[size_t(thread)].attention.data(), attended.row(token) + h * shape_.head_dim);
        }
    }
}

void Attention::probabilities(int layer, int token, int head, float* out, int n) const {
    const Range range = visible(layer, token);
    const float* q = query.row(token) + head * shape_.head_dim;
    std::fill(out, out + n, 0.0f);
    float top = -INFINITY;
    double sum = 0;
    for (int p = range.begin; p < range.end; ++p) {
        const int page = batch_->page_table(token, cache_.group(layer))[p / kPageTokens];
        const Cache::Place place{layer, head / shape_.heads_per_kv(), page, p % kPageTokens};
        double score = 0;
        for (int d = 0; d < shape_.head_dim; ++d) score += double(q[d]) * cache_.key_element(place, d);
        if (shape_.attention_softcap) score = *shape_.attention_softcap * std::tanh(score / *shape_.attention_softcap);
        out[p] = float(score);
        top = std::max(top, out[p]);
    }
    for (int p = range.begin; p < range.end; ++p) sum += out[p] = std::exp(out[p] - top);
    for (int p = range.begin; p < range.end; ++p) out[p] = float(out[p] / sum);
}

}  // namespace madang
