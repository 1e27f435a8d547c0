#include "decoder.h"

#include <cmath>
#include <cstring>
#include <limits>
#include <stdexcept>

#include "half.h"

namespace madang {

namespace {

constexpr int kSerialTokens = 2;            // up to here, sharing row work costs more than doing it
constexpr int kMaxHeadDim = 1024;
constexpr size_t kSlabBytes = size_t(8) << 20;  // cache growth: a few huge pages at a time

float* floats_of(const Buffer& buffer) { return reinterpret_cast<float*>(buffer.data()); }

std::string shape_text(int rows, int columns) { return std::to_string(rows) + " x " + std::to_string(columns); }

}  // namespace

// ---- weights ---------------------------------------------------------------------------------------------------------

Decoder::Decoder(DecoderShape shape, int n_threads, const std::string& isa, float outlier)
    : shape_(std::move(shape)), kernels_(&select_kernels(isa)), pool_(n_threads), layers_(size_t(shape_.n_layers)) {
    const DecoderShape& s = shape_;
    if (s.n_layers <= 0 || s.n_embd <= 0 || s.n_heads <= 0 || s.n_kv_heads <= 0 || s.head_dim <= 0 || s.n_ff <= 0 ||
        s.vocab_size <= 0 || s.head_dim > kMaxHeadDim || s.n_heads % s.n_kv_heads != 0 || int(s.window_tokens.size()) != s.n_layers ||
        2 * int(s.inverse_frequencies.size()) > s.head_dim || int64_t(s.n_heads) * s.head_dim > kMaxColumns)
        throw std::invalid_argument("the decoder's dimensions contradict each other");
    value_stride_ = int(round_up(s.head_dim, kLanes));
    const auto width = [](int n) { return int(round_up(n, kBlock)); };
    hidden_.width = attention_in_.width = ffn_in_.width = last_.width = width(s.n_embd);
    query_.width = attended_.width = width(s.n_heads * s.head_dim);
    key_.width = value_.width = width(s.n_kv_heads * s.head_dim);
    gate_.width = up_.width = width(s.n_ff);
    logits_.width = width(s.vocab_size);
    // Queries, keys, values and the last rows always keep 15 bits: little work, and much depends on it.
    ffn_in_.outlier = attended_.outlier = gate_.outlier = outlier;
    scratch_.assign(size_t(pool_.size()), std::vector<float>(size_t(attention_scratch_floats(s.head_dim))));
    halves_.assign(size_t(pool_.size()), std::vector<uint16_t>(size_t(value_stride_)));
}

Decoder::Layer* Decoder::find_layer(const std::string& name, std::string& rest) {
    const size_t dot = name.find('.');
    if (dot == std::string::npos || dot == 0 || dot > 6 || name.find_first_not_of("0123456789") != dot) return nullptr;
    const size_t index = std::stoul(name.substr(0, dot));
    rest = name.substr(dot + 1);
    return index < layers_.size() ? &layers_[index] : nullptr;
}

PackedMatrix* Decoder::find_matrix(const std::string& name, int& rows, int& columns) {
    const DecoderShape& s = shape_;
    const int heads = s.n_heads * s.head_dim, kv_heads = s.n_kv_heads * s.head_dim;
    const auto found = [&](PackedMatrix& matrix, int n_rows, int n_columns) {
        rows = n_rows;
        columns = n_columns;
        return &matrix;
    };
    if (name == "token_embedding") return found(token_embedding_, s.vocab_size, s.n_embd);
    if (name == "output") return found(output_, s.vocab_size, s.n_embd);
    std::string part;
    Layer* layer = find_layer(name, part);
    if (!layer) return nullptr;
    if (part == "query") return found(layer->query, heads, s.n_embd);
    if (part == "key") return found(layer->key, kv_heads, s.n_embd);
    if (part == "value") return found(layer->value, kv_heads, s.n_embd);
    if (part == "attention_output") return found(layer->attention_output, s.n_embd, heads);
    if (part == "ffn_gate") return found(layer->ffn_gate, s.n_ff, s.n_embd);
    if (part == "ffn_up") return found(layer->ffn_up, s.n_ff, s.n_embd);
    if (part == "ffn_down") return found(layer->ffn_down, s.n_embd, s.n_ff);
    return nullptr;
}

std::vector<float>* Decoder::find_norm(const std::string& name) {
    if (name == "output_norm") return &output_norm_;
    std::string part;
    Layer* layer = find_layer(name, part);
    if (layer && part == "attention_norm") return &layer->attention_norm;
    if (layer && part == "ffn_norm") return &layer->ffn_norm;
    return nullptr;
}

void Decoder::set_tensor(const std::string& name, uint32_t type, int rows, int columns, std::span<const uint8_t> bytes) {
    const TypeTraits* traits = find_traits(type);
    if (!traits) throw std::invalid_argument("tensor type " + std::to_string(type) + " is not one of this engine");
    const bool whole = columns > 0 && rows > 0 && columns % traits->block_elements == 0;
    const size_t expected = whole ? size_t(rows) * (columns / traits->block_elements) * traits->block_bytes : 0;
    if (!whole || bytes.size() != expected)
        throw std::invalid_argument("tensor '" + name + "' has " + std::to_string(bytes.size()) + " bytes, which is not " +
                                    shape_text(rows, columns) + " of its type");
    if (std::vector<float>* norm = find_norm(name)) {
        if (rows != 1 || columns != shape_.n_embd)
            throw std::invalid_argument("tensor '" + name + "' is " + shape_text(rows, columns) + ", expected 1 x " +
                                        std::to_string(shape_.n_embd));
        PackedMatrix one_row = allocate_matrix(*traits, 1, columns);
        pack_group(one_row, 0, bytes.data());
        norm->assign(size_t(hidden_.width), 0.0f);
        unpack_row(one_row, 0, norm->data());
        return;
    }
    int expected_rows = 0, expected_columns = 0;
    PackedMatrix* matrix = find_matrix(name, expected_rows, expected_columns);
    if (!matrix) throw std::invalid_argument("there is no tensor '" + name + "' in this model");
    if (rows != expected_rows || columns != expected_columns)
        throw std::invalid_argument("tensor '" + name + "' is " + shape_text(rows, columns) + ", expected " +
                                    shape_text(expected_rows, expected_columns));
    PackedMatrix packed = allocate_matrix(*traits, rows, columns);
    pool_.run([&](int) {
        pool_.share(packed.groups(), 4, [&](Range groups) {
            for (int g = groups.begin; g < groups.end; ++g) pack_group(packed, g, bytes.data());
        });
    });
    *matrix = std::move(packed);
}

void Decoder::complete() {
    const auto need = [](bool there, const std::string& name) {
        if (!there) throw std::invalid_argument("tensor '" + name + "' is missing");
    };
    need(!token_embedding_.empty(), "token_embedding");
    need(!output_norm_.empty(), "output_norm");
    last_.add_reader(output_matrix(), *kernels_);
    for (size_t i = 0; i < layers_.size(); ++i) {
        Layer& layer = layers_[i];
        const std::string prefix = std::to_string(i) + ".";
        need(!layer.attention_norm.empty(), prefix + "attention_norm");
        need(!layer.ffn_norm.empty(), prefix + "ffn_norm");
        const auto reads = [&](Rows& rows, const PackedMatrix& matrix, const char* name) {
            need(!matrix.empty(), prefix + name);
            rows.add_reader(matrix, *kernels_);
        };
        reads(attention_in_, layer.query, "query");
        reads(attention_in_, layer.key, "key");
        reads(attention_in_, layer.value, "value");
        reads(ffn_in_, layer.ffn_gate, "ffn_gate");
        reads(ffn_in_, layer.ffn_up, "ffn_up");
        reads(attended_, layer.attention_output, "attention_output");
        reads(gate_, layer.ffn_down, "ffn_down");
    }
    is_complete_ = true;
}

size_t Decoder::weight_bytes() const {
    size_t sum = token_embedding_.data.size() + output_.data.size() + output_norm_.size() * 4;
    for (const Layer& layer : layers_) {
        for (const PackedMatrix* m : {&layer.query, &layer.key, &layer.value, &layer.attention_output, &layer.ffn_gate,
                                      &layer.ffn_up, &layer.ffn_down})
            sum += m->data.size();
        sum += (layer.attention_norm.size() + layer.ffn_norm.size()) * 4;
    }
    return sum;
}

// ---- rows ------------------------------------------------------------------------------------------------------------

void Decoder::Rows::resize(int n) {
    const size_t elements = size_t(n) * width;
    floats = Buffer(elements * 4);
    if (wants_bfloats) bfloats = Buffer(elements * 2);
    if (!wants_quants) return;
    blocks = Buffer(elements / kBlock * sizeof(QuantizedBlock));
}

void Decoder::Rows::add_reader(const PackedMatrix& matrix, const Kernels& kernels) {
    wants_quants |= is_quantized(matrix.type());
    wants_bfloats |= matrix.type() == Type::BF16 && kernels.wants_bfloats;
}

Activations Decoder::Rows::activations() const {
    return {width, floats_of(floats), reinterpret_cast<const uint16_t*>(bfloats.data()),
            reinterpret_cast<const QuantizedBlock*>(blocks.data())};
}

Output Decoder::Rows::output(bool accumulate) const { return {floats_of(floats), width, accumulate}; }

// Fills the other forms of a row from its floats.
void Decoder::Rows::encode(const Kernels& kernels, int t) const {
    const size_t at = size_t(t) * width;
    if (wants_quants) kernels.quantize(row(t), width, outlier, reinterpret_cast<QuantizedBlock*>(blocks.data()) + at / kBlock);
    if (wants_bfloats) kernels.to_bfloat(row(t), width, reinterpret_cast<uint16_t*>(bfloats.data()) + at);
}

// ---- cache -----------------------------------------------------------------------------------------------------------

void Decoder::reserve_pages(int n) {
    const int per_slab = std::max<int>(1, int(kSlabBytes / page_bytes()));
    while (n_pages() < n) {
        slabs_.emplace_back(page_bytes() * per_slab);
        for (int i = 0; i < per_slab; ++i)
            pages_.push_back(reinterpret_cast<uint16_t*>(slabs_.back().data()) + size_t(i) * page_elements());
    }
}

void Decoder::rotate(float* head, int token) const {
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

void Decoder::rotate_and_cache(const Batch& batch, int layer, int token, int thread) {
    const float scale = 1.0f / std::sqrt(float(shape_.head_dim));
    for (int h = 0; h < shape_.n_heads; ++h) {
        float* head = query_.row(token) + h * shape_.head_dim;
        rotate(head, token);
        for (int d = 0; d < shape_.head_dim; ++d) head[d] *= scale;
    }
    const int position = batch.positions[token], slot = position % kPageTokens;
    const int32_t* table = batch.page_tables.data() + size_t(batch.sequences[token]) * batch.page_table_stride;
    uint16_t* page = pages_[table[position / kPageTokens]];
    uint16_t* halves = halves_[thread].data();
    float padded[kMaxHeadDim];
    for (int h = 0; h < shape_.n_kv_heads; ++h) {
        uint16_t* keys = page + key_offset(layer, h);
        uint16_t* values = keys + size_t(kPageTokens) * shape_.head_dim + size_t(slot) * value_stride_;
        float* key = key_.row(token) + h * shape_.head_dim;
        rotate(key, token);
        std::fill(padded, padded + value_stride_, 0.0f);
        std::copy(key, key + shape_.head_dim, padded);
        kernels_->to_half(padded, value_stride_, halves);
        for (int d = 0; d < shape_.head_dim; ++d) keys[d * kPageTokens + slot] = halves[d];
        const float* value = value_.row(token) + h * shape_.head_dim;
        std::copy(value, value + shape_.head_dim, padded);
        kernels_->to_half(padded, value_stride_, values);
    }
}

void Decoder::attend(const Batch& batch, int layer, int unit, int thread) {
    const int per_tile = shape_.n_kv_heads * units_per_kv();
    const QueryTile& queries = tiles_[unit / per_tile];
    const int kv_head = unit % per_tile / units_per_kv(), first_in_group = unit % units_per_kv() * heads_per_unit();
    const int n_heads = std::min(heads_per_unit(), heads_per_kv() - first_in_group);
    const int first_head = kv_head * heads_per_kv() + first_in_group;
    const float* rows[kMaxQueryTile];
    float* outputs[kMaxQueryTile];
    int first[kMaxQueryTile], last[kMaxQueryTile], n = 0;
    for (int t = queries.begin; t < queries.end; ++t)
        for (int h = first_head; h < first_head + n_heads; ++h, ++n) {
            rows[n] = query_.row(t) + h * shape_.head_dim;
            outputs[n] = attended_.row(t) + h * shape_.head_dim;
            last[n] = batch.positions[t];
            const int window = shape_.window_tokens[layer];
            first[n] = window > 0 ? std::max(0, last[n] + 1 - window) : 0;
        }
    const size_t keys = key_offset(layer, kv_head);
    kernels_->attend({n, shape_.head_dim, value_stride_, rows, first, last,
                      batch.page_tables.data() + size_t(batch.sequences[queries.begin]) * batch.page_table_stride,
                      pages_.data(), keys, keys + size_t(kPageTokens) * shape_.head_dim, outputs, scratch_[thread].data()});
}

// ---- a step ----------------------------------------------------------------------------------------------------------

void Decoder::check(const Batch& batch) const {
    const size_t n = batch.tokens.size();
    const auto require = [](bool good, const char* what) {
        if (!good) throw std::invalid_argument(what);
    };
    require(is_complete_, "the decoder has not been completed");
    require(n > 0 && batch.positions.size() == n && batch.sequences.size() == n, "a batch needs tokens, positions and sequences of one length");
    require(batch.page_table_stride > 0, "a batch needs page tables");
    const size_t n_sequences = batch.page_tables.size() / size_t(batch.page_table_stride);
    for (size_t i = 0; i < n; ++i) {
        require(batch.tokens[i] >= 0 && batch.tokens[i] < shape_.vocab_size, "a token id is outside of the vocabulary");
        require(batch.sequences[i] >= 0 && size_t(batch.sequences[i]) < n_sequences, "a sequence has no page table");
        require(batch.positions[i] >= 0 && batch.positions[i] / kPageTokens < batch.page_table_stride, "a position is beyond its page table");
        const int32_t* table = batch.page_tables.data() + size_t(batch.sequences[i]) * batch.page_table_stride;
        for (int p = 0; p <= batch.positions[i] / kPageTokens; ++p)
            require(table[p] >= 0 && table[p] < n_pages(), "a page does not exist");
        require(i == 0 || batch.sequences[i] != batch.sequences[i - 1] || batch.positions[i] == batch.positions[i - 1] + 1,
                "the tokens of a sequence must be consecutive");
    }
    for (const int32_t output : batch.outputs) require(output >= 0 && size_t(output) < n, "an output is not in the batch");
}

void Decoder::resize(int n_tokens) {
    if (n_tokens <= capacity_) return;
    for (Rows* rows : {&hidden_, &attention_in_, &ffn_in_, &query_, &key_, &value_, &attended_, &gate_, &up_}) rows->resize(n_tokens);
    angles_.resize(size_t(n_tokens) * 2 * shape_.inverse_frequencies.size());
    capacity_ = n_tokens;
}

void Decoder::prepare(const Batch& batch) {
    const int n = int(batch.tokens.size());
    resize(n);
    const size_t outputs = batch.outputs.size();
    if (logits_.floats.size() < outputs * logits_.width * 4) {
        last_.resize(int(outputs));
        logits_.resize(int(outputs));
    }
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

void Decoder::step(const Batch& batch) {
    check(batch);
    prepare(batch);
    const std::function<void(int)> job = [&](int thread) { forward(batch, thread); };
    n_outputs_ = 0;
    pool_.run(job);
    n_outputs_ = int(batch.outputs.size());
}

std::span<const float> Decoder::logits(int row) const {
    if (row < 0 || row >= n_outputs_) throw std::invalid_argument("the last step left no such row of logits");
    return {logits_.row(row), size_t(shape_.vocab_size)};
}

// Ends a shared stage and does row work for n tokens before the next: by the last thread when it is little, else by all.
template <class Work>
void Decoder::between(int n, Work work) {
    if (n <= kSerialTokens) {
        pool_.barrier([&] { work(Range{0, n}); });
    } else {
        pool_.barrier();
        pool_.share(n, 2, work);
        pool_.barrier();
    }
}

void Decoder::normalize(const Rows& from, const std::vector<float>& weight, const Rows& to, int source, int target) const {
    kernels_->rms_norm(from.row(source), weight.data(), to.row(target), shape_.n_embd, shape_.norm_epsilon);
    to.encode(*kernels_, target);
}

// Row groups that a thread takes at a time. With few tokens each piece starts with a wait for memory, so they are large.
int Decoder::piece_groups(int groups, int n_tokens) const {
    const int pieces = pool_.size() * (n_tokens <= kMaxQueryTile ? 2 : 8);
    const int even = (groups + pieces - 1) / pieces;
    return n_tokens <= kMaxQueryTile ? even : int(round_up(even, kernels_->group_tile));
}

void Decoder::multiply(std::initializer_list<Product> products, const Rows& in, int n) {
    int groups = 0;
    for (const Product& product : products) groups += product.matrix->groups();
    const Activations activations = in.activations();
    pool_.share(groups, piece_groups(groups, n), [&](Range range) {
        int offset = 0;
        for (const Product& product : products) {
            const Range own{std::max(0, range.begin - offset), std::min(product.matrix->groups(), range.end - offset)};
            if (own.begin < own.end) kernels_->multiply(*product.matrix, own, activations, {0, n}, product.out);
            offset += product.matrix->groups();
        }
    });
}

// gate = silu(gate) * up
void Decoder::gate_and_up(const Layer& layer, int n) {
    const Activations activations = ffn_in_.activations();
    const int groups = layer.ffn_gate.groups();
    pool_.share(groups, piece_groups(groups, n), [&](Range range) {
        kernels_->multiply(layer.ffn_gate, range, activations, {0, n}, gate_.output());
        kernels_->multiply(layer.ffn_up, range, activations, {0, n}, up_.output());
        const Range columns{range.begin * kLanes, range.end * kLanes};
        for (int t = 0; t < n; ++t)
            kernels_->silu_multiply(gate_.row(t) + columns.begin, up_.row(t) + columns.begin, columns.end - columns.begin);
    });
}

void Decoder::run_layer(const Batch& batch, int index, int thread) {
    const Layer& layer = layers_[index];
    const int n = int(batch.tokens.size());
    multiply({{&layer.query, query_.output()}, {&layer.key, key_.output()}, {&layer.value, value_.output()}}, attention_in_, n);
    between(n, [&](Range tokens) {
        for (int t = tokens.begin; t < tokens.end; ++t) rotate_and_cache(batch, index, t, thread);
    });
    pool_.share(int(tiles_.size()) * shape_.n_kv_heads * units_per_kv(), 1, [&](Range units) {
        for (int u = units.begin; u < units.end; ++u) attend(batch, index, u, thread);
    });
    between(n, [&](Range tokens) {
        for (int t = tokens.begin; t < tokens.end; ++t) attended_.encode(*kernels_, t);
    });
    multiply({{&layer.attention_output, hidden_.output(true)}}, attended_, n);
    between(n, [&](Range tokens) {
        for (int t = tokens.begin; t < tokens.end; ++t) normalize(hidden_, layer.ffn_norm, ffn_in_, t, t);
    });
    gate_and_up(layer, n);
    between(n, [&](Range tokens) {
        for (int t = tokens.begin; t < tokens.end; ++t) gate_.encode(*kernels_, t);
    });
    multiply({{&layer.ffn_down, hidden_.output(true)}}, gate_, n);
}

void Decoder::forward(const Batch& batch, int thread) {
    const int n = int(batch.tokens.size()), n_outputs = int(batch.outputs.size());
    pool_.share(n, 1, [&](Range tokens) {
        for (int t = tokens.begin; t < tokens.end; ++t) unpack_row(token_embedding_, batch.tokens[t], hidden_.row(t));
    });
    for (int i = 0; i < shape_.n_layers; ++i) {
        between(n, [&](Range tokens) {
            for (int t = tokens.begin; t < tokens.end; ++t) normalize(hidden_, layers_[i].attention_norm, attention_in_, t, t);
        });
        run_layer(batch, i, thread);
    }
    if (n_outputs == 0) return pool_.barrier();
    between(n_outputs, [&](Range outputs) {
        for (int i = outputs.begin; i < outputs.end; ++i) normalize(hidden_, output_norm_, last_, batch.outputs[i], i);
    });
    multiply({{&output_matrix(), logits_.output()}}, last_, n_outputs);
}

}  // namespace madang
