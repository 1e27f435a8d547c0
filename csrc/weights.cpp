#include "weights.h"

#include <stdexcept>

namespace madang {

namespace {

std::string shape_text(int rows, int columns) { return std::to_string(rows) + " x " + std::to_string(columns); }

void check_bytes(const std::string& name, const TypeTraits& traits, int rows, int columns, size_t n_bytes) {
    const bool whole = columns > 0 && rows > 0 && columns % traits.block_elements == 0;
    if (!whole || n_bytes != size_t(rows) * (columns / traits.block_elements) * traits.block_bytes)
        throw std::invalid_argument("tensor '" + name + "' has " + std::to_string(n_bytes) + " bytes, which is not " +
                                    shape_text(rows, columns) + " of its type");
}

PackedMatrix pack(const TypeTraits& traits, int rows, int columns, const uint8_t* bytes, ThreadPool& pool) {
    PackedMatrix packed = allocate_matrix(traits, rows, columns);
    pool.run([&](int) {
        pool.share(packed.groups(), 4, [&](Range groups) {
            for (int g = groups.begin; g < groups.end; ++g) pack_group(packed, g, bytes);
        });
    });
    return packed;
}

}  // namespace

Weights::Weights(const DecoderShape& shape) : layers(size_t(shape.n_layers)), shape_(shape) {
    add("token_embedding", token_embedding, shape.vocab_size, shape.n_embd);
    add("output", output, shape.vocab_size, shape.n_embd, false);
    add("output_norm", output_norm, shape.n_embd);
    for (int i = 0; i < shape.n_layers; ++i) add_layer(i);
}

void Weights::add_layer(int index) {
    const DecoderShape& s = shape_;
    const int heads = s.n_heads * s.head_dim, kv_heads = s.n_kv_heads * s.head_dim;
    Layer& layer = layers[size_t(index)];
    const std::string prefix = std::to_string(index) + ".";
    add(prefix + "attention_norm", layer.attention_norm, s.n_embd);
    add(prefix + "query", layer.query, heads, s.n_embd);
    add(prefix + "key", layer.key, kv_heads, s.n_embd);
    add(prefix + "value", layer.value, kv_heads, s.n_embd);
    add(prefix + "attention_output", layer.attention_output, s.n_embd, heads);
    add(prefix + "ffn_norm", layer.ffn_norm, s.n_embd);
    add(prefix + "ffn_gate", layer.ffn_gate, s.n_ff, s.n_embd);
    add(prefix + "ffn_up", layer.ffn_up, s.n_ff, s.n_embd);
    add(prefix + "ffn_down", layer.ffn_down, s.n_embd, s.n_ff);
}

void Weights::add(std::string name, PackedMatrix& matrix, int rows, int columns, bool required) {
    slot_of_.emplace(name, slots_.size());
    slots_.push_back({std::move(name), rows, columns, required, &matrix, nullptr});
}

void Weights::add(std::string name, std::vector<float>& vector, int n, bool required) {
    slot_of_.emplace(name, slots_.size());
    slots_.push_back({std::move(name), 1, n, required, nullptr, &vector});
}

void Weights::set(const std::string& name, uint32_t type, int rows, int columns, std::span<const uint8_t> bytes, ThreadPool& pool) {
    const TypeTraits* traits = find_traits(type);
    if (!traits) throw std::invalid_argument("tensor type " + std::to_string(type) + " is not one of this engine");
    check_bytes(name, *traits, rows, columns, bytes.size());
    const auto found = slot_of_.find(name);
    if (found == slot_of_.end()) throw std::invalid_argument("there is no tensor '" + name + "' in this model");
    Slot& slot = slots_[found->second];
    if (rows != slot.rows || columns != slot.columns)
        throw std::invalid_argument("tensor '" + name + "' is " + shape_text(rows, columns) + ", expected " +
                                    shape_text(slot.rows, slot.columns));
    PackedMatrix packed = pack(*traits, rows, columns, bytes.data(), pool);
    if (slot.matrix) {
        *slot.matrix = std::move(packed);
    } else {
        slot.vector->assign(round_up(size_t(columns), kBlock), 0.0f);
        unpack_row(packed, 0, slot.vector->data());
    }
}

void Weights::complete() const {
    for (const Slot& slot : slots_)
        if (slot.required && slot.empty()) throw std::invalid_argument("tensor '" + slot.name + "' is missing");
}

size_t Weights::bytes() const {
    size_t sum = 0;
    for (const Slot& slot : slots_) sum += slot.matrix ? slot.matrix->data.size() : slot.vector->size() * sizeof(float);
    return sum;
}

}  // namespace madang
