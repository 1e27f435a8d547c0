// The tensors of a model by their canonical names (src/madang/formats/spec.py), repacked for the kernels.
#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "shape.h"
#include "thread_pool.h"

namespace madang {

// Float vectors, each padded with zeros to a multiple of 32.
struct Vectors {
    std::vector<float> values;
    int rows = 0, stride = 0;
    bool empty() const { return rows == 0; }
    // nullptr when empty. One vector serves every row.
    const float* row(int i = 0) const { return empty() ? nullptr : values.data() + (rows == 1 ? 0 : size_t(i) * stride); }
};

struct Linear {
    PackedMatrix matrix;
    Vectors bias;
};

struct Norm {
    Vectors weight, bias;
    bool empty() const { return weight.empty(); }
    // y = norm(x) of n elements, which are padded with zeros to 16; x may be y. `row` is the head, where heads have weights
    // of their own.
    void apply(const DecoderShape& shape, const Kernels& kernels, const float* x, float* y, int n, int row = 0) const;
};

struct FeedForward {
    Linear gate, up, down;
};

struct Layer {
    Norm attention_norm, query_norm, key_norm, attention_post_norm, ffn_norm, ffn_post_norm;
    Linear query, key, value, attention_output, router;
    FeedForward ffn;
    std::vector<FeedForward> experts;
};

class Weights {
public:
    explicit Weights(const DecoderShape& shape);
    Weights(const Weights&) = delete;
    Weights& operator=(const Weights&) = delete;

    // Repacks a tensor from its file bytes (rows x columns of `type`), which are not needed afterwards; vectors have one
    // row. Throws std::invalid_argument for a wrong name, shape, size or type.
    void set(const std::string& name, uint32_t type, int rows, int columns, std::span<const uint8_t> bytes, ThreadPool& pool);
    // Throws std::invalid_argument naming the first tensor that is missing.
    void complete() const;
    size_t bytes() const;

    PackedMatrix token_embedding, position_embedding;
    Vectors type_embedding;
    Norm embedding_norm, output_norm;
    Linear output;
    std::vector<Layer> layers;

    const PackedMatrix& output_matrix() const { return output.matrix.empty() ? token_embedding : output.matrix; }
    // A matrix that a product of every token uses; nullptr when there is none of this name.
    const PackedMatrix* find_linear(const std::string& name) const;

private:
    // A place for one tensor.
    struct Slot {
        std::string name;
        int rows, columns;               // rows 0: any number
        bool required;
        PackedMatrix* matrix;            // either this
        Vectors* vectors;                // or this
        const Vectors* substitute = nullptr;  // not required where this is there
        int owner = -1;                  // slot without which this one makes no sense
        bool empty() const { return matrix ? matrix->empty() : vectors->empty(); }
    };
    Slot& add(std::string name, PackedMatrix& matrix, int rows, int columns, bool required = true);
    Slot& add(std::string name, Vectors& vectors, int rows, int columns, bool required = false);
    void add(const std::string& name, Linear& linear, int rows, int columns, bool required = true);
    void add(const std::string& name, Norm& norm, int rows, int columns, bool required = false, const Norm* substitute = nullptr);
    void add(const std::string& prefix, FeedForward& ffn);
    void add_attention(const std::string& prefix, Layer& layer);
    void add_layer(int index);
    void check_layers_alike() const;

    const DecoderShape& shape_;
    std::vector<Slot> slots_;
    size_t first_layer_slot_ = 0;
    std::unordered_map<std::string, size_t> slot_of_;
};

// Packs rows x columns of a type on all threads. Throws std::invalid_argument, with the name, when the bytes are not that.
PackedMatrix pack_matrix(const std::string& name, uint32_t type, int rows, int columns, std::span<const uint8_t> bytes,
                         ThreadPool& pool);

}  // namespace madang
