#include "weights.h"

#include <atomic>
#include <stdexcept>

namespace madang {

namespace {

std::string shape_text(int rows, int columns) { return std::to_string(rows) + " x " + std::to_string(columns); }

Vectors unpack(const PackedMatrix& packed) {
    Vectors vectors;
    vectors.rows = packed.rows;
    vectors.stride = int(round_up(size_t(packed.columns), kBlock));
    vectors.values.assign(size_t(packed.rows) * vectors.stride, 0.0f);
    for (int i = 0; i < packed.rows; ++i) unpack_row(packed, i, vectors.values.data() + size_t(i) * vectors.stride);
    return vectors;
}

[[noreturn]] void missing(const std::string& name) { throw std::invalid_argument("tensor '" + name + "' is missing"); }

}  // namespace

PackedMatrix pack_matrix(const std::string& name, uint32_t type, int rows, int columns, std::span<const uint8_t> bytes,
                         ThreadPool& pool) {
    const TypeTraits* traits = find_traits(type);
    if (!traits) throw std::invalid_argument("tensor type " + std::to_string(type) + " is not one of this engine");
    const bool whole = columns > 0 && rows > 0 && columns % traits->block_elements == 0;
    if (!whole || bytes.size() != size_t(rows) * (columns / traits->block_elements) * traits->block_bytes)
        throw std::invalid_argument("tensor '" + name + "' has " + std::to_string(bytes.size()) + " bytes, which is not " +
                                    shape_text(rows, columns) + " of its type");
    PackedMatrix packed = allocate_matrix(*traits, rows, columns);
    std::atomic<bool> finite = true;
    pool.run([&](int) {
        pool.share(packed.groups(), 4, [&](Range groups) {
            for (int g = groups.begin; g < groups.end; ++g)
                if (!pack_group(packed, g, bytes.data())) finite = false;
        });
    });
    if (!finite) throw std::invalid_argument("tensor '" + name + "' holds NaN or infinity");
    return packed;
}

void Norm::apply(const DecoderShape& shape, const Kernels& kernels, const float* x, float* y, int n, int row) const {
    if (shape.layer_norm) kernels.layer_norm(x, weight.row(row), bias.row(row), y, n, shape.norm_epsilon);
    else kernels.rms_norm(x, weight.row(row), y, n, shape.norm_epsilon);
}

// ---- which tensors there are -----------------------------------------------------------------------------------------

Weights::Weights(const DecoderShape& shape) : layers(size_t(shape.n_layers)), shape_(shape) {
    add("token_embedding", token_embedding, shape.vocab_size, shape.n_embd);
    add("position_embedding", position_embedding, 0, shape.n_embd, false);
    add("type_embedding", type_embedding, 0, shape.n_embd);
    add("embedding_norm", embedding_norm, 1, shape.n_embd);
    add("output_norm", output_norm, 1, shape.n_embd, !shape.norms_sum);
    if (shape.causal) {
        add("output", output.matrix, shape.vocab_size, shape.n_embd, false);
        add("output.bias", output.bias, 1, shape.vocab_size);  // also of a tied one
    }
    first_layer_slot_ = slots_.size();
    for (int i = 0; i < shape.n_layers; ++i) add_layer(i);
}

void Weights::add_attention(const std::string& prefix, Layer& layer) {
    const DecoderShape& s = shape_;
    const int heads = s.n_heads * s.head_dim, kv_heads = s.n_kv_heads * s.head_dim;
    // A branch that has no post norm has a norm; parallel branches have no post norms.
    add(prefix + "attention_norm", layer.attention_norm, 1, s.n_embd, !s.norms_sum, &layer.attention_post_norm);
    add(prefix + "query", layer.query, heads, s.n_embd);
    add(prefix + "key", layer.key, kv_heads, s.n_embd);
    add(prefix + "value", layer.value, kv_heads, s.n_embd);
    add(prefix + "query_norm", layer.query_norm, s.n_heads, s.head_dim);
    add(prefix + "key_norm", layer.key_norm, s.n_kv_heads, s.head_dim);
    add(prefix + "attention_output", layer.attention_output, s.n_embd, heads);
    if (!s.parallel) add(prefix + "attention_post_norm", layer.attention_post_norm, 1, s.n_embd, s.norms_sum);
}

void Weights::add(const std::string& prefix, FeedForward& ffn) {
    if (shape_.gated) add(prefix + "ffn_gate", ffn.gate, shape_.n_ff, shape_.n_embd);
    add(prefix + "ffn_up", ffn.up, shape_.n_ff, shape_.n_embd);
    add(prefix + "ffn_down", ffn.down, shape_.n_embd, shape_.n_ff);
}

void Weights::add_layer(int index) {
    const DecoderShape& s = shape_;
    Layer& layer = layers[size_t(index)];
    const std::string prefix = std::to_string(index) + ".";
    add_attention(prefix, layer);
    add(prefix + "ffn_norm", layer.ffn_norm, 1, s.n_embd, !s.parallel && !s.norms_sum, &layer.ffn_post_norm);
    if (s.n_experts > 0) {
        layer.experts.resize(size_t(s.n_experts));
        add(prefix + "router", layer.router, s.n_experts, s.n_embd);
        for (int e = 0; e < s.n_experts; ++e) add(prefix + "expert." + std::to_string(e) + ".", layer.experts[size_t(e)]);
    } else {
        add(prefix, layer.ffn);
    }
    if (!s.parallel) add(prefix + "ffn_post_norm", layer.ffn_post_norm, 1, s.n_embd, s.norms_sum);
}

Weights::Slot& Weights::add(std::string name, PackedMatrix& matrix, int rows, int columns, bool required) {
    slot_of_.emplace(name, slots_.size());
    return slots_.emplace_back(Slot{std::move(name), rows, columns, required, &matrix, nullptr});
}

Weights::Slot& Weights::add(std::string name, Vectors& vectors, int rows, int columns, bool required) {
    slot_of_.emplace(name, slots_.size());
    return slots_.emplace_back(Slot{std::move(name), rows, columns, required, nullptr, &vectors});
}

void Weights::add(const std::string& name, Linear& linear, int rows, int columns, bool required) {
    const int owner = int(slots_.size());
    add(name, linear.matrix, rows, columns, required);
    add(name + ".bias", linear.bias, 1, rows).owner = owner;
}

void Weights::add(const std::string& name, Norm& norm, int rows, int columns, bool required, const Norm* substitute) {
    const int owner = int(slots_.size());
    add(name, norm.weight, rows, columns, required).substitute = substitute ? &substitute->weight : nullptr;
    if (shape_.layer_norm) add(name + ".bias", norm.bias, rows, columns).owner = owner;
}

// ---- loading ---------------------------------------------------------------------------------------------------------

void Weights::set(const std::string& name, uint32_t type, int rows, int columns, std::span<const uint8_t> bytes, ThreadPool& pool) {
    PackedMatrix packed = pack_matrix(name, type, rows, columns, bytes, pool);
    const auto found = slot_of_.find(name);
    if (found == slot_of_.end()) throw std::invalid_argument("there is no tensor '" + name + "' in this model");
    Slot& slot = slots_[found->second];
    const bool fits = rows == slot.rows || slot.rows == 0 || (slot.vectors && rows == 1);
    if (!fits || columns != slot.columns)
        throw std::invalid_argument("tensor '" + name + "' is " + shape_text(rows, columns) + ", expected " +
                                    shape_text(slot.rows > 0 ? slot.rows : rows, slot.columns));
    if (slot.matrix) *slot.matrix = std::move(packed);
    else *slot.vectors = unpack(packed);
}

void Weights::complete() const {
    for (const Slot& slot : slots_) {
        const bool substituted = slot.substitute && !slot.substitute->empty();
        if (slot.required && slot.empty() && !substituted) missing(slot.name);
        if (!slot.empty() && slot.owner >= 0 && slots_[size_t(slot.owner)].empty()) missing(slots_[size_t(slot.owner)].name);
    }
    check_layers_alike();
}

// An optional tensor that only some layers have is one that got lost.
void Weights::check_layers_alike() const {
    const size_t per_layer = (slots_.size() - first_layer_slot_) / layers.size();
    for (size_t i = first_layer_slot_ + per_layer; i < slots_.size(); ++i) {
        const Slot& before = slots_[i - per_layer];
        if (slots_[i].empty() != before.empty()) missing(before.empty() ? before.name : slots_[i].name);
    }
}

const PackedMatrix* Weights::find_linear(const std::string& name) const {
    if (name == "output" && shape_.causal) return &output_matrix();
    const auto found = slot_of_.find(name);
    const bool of_layer = found != slot_of_.end() && found->second >= first_layer_slot_;
    if (!of_layer || name.find(".expert.") != std::string::npos) return nullptr;
    return slots_[found->second].matrix;
}

size_t Weights::bytes() const {
    size_t sum = 0;
    for (const Slot& slot : slots_)
        sum += slot.matrix ? slot.matrix->data.size() : slot.vectors->values.size() * sizeof(float);
    return sum;
}

}  // namespace madang
