// The tensors of a model by their canonical names (src/madang/formats/spec.py), repacked for the kernels.
#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "layout.h"
#include "shape.h"
#include "thread_pool.h"

namespace madang {

struct Layer {
    PackedMatrix query, key, value, attention_output, ffn_gate, ffn_up, ffn_down;
    std::vector<float> attention_norm, ffn_norm;
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

    PackedMatrix token_embedding, output;
    std::vector<float> output_norm;
    std::vector<Layer> layers;

    const PackedMatrix& output_matrix() const { return output.empty() ? token_embedding : output; }

private:
    // A place for one tensor: a matrix, or a vector padded with zeros to a multiple of 32.
    struct Slot {
        std::string name;
        int rows, columns;
        bool required;
        PackedMatrix* matrix;
        std::vector<float>* vector;
        bool empty() const { return matrix ? matrix->empty() : vector->empty(); }
    };
    void add(std::string name, PackedMatrix& matrix, int rows, int columns, bool required = true);
    void add(std::string name, std::vector<float>& vector, int n, bool required = true);
    void add_layer(int index);

    const DecoderShape& shape_;
    std::vector<Slot> slots_;
    std::unordered_map<std::string, size_t> slot_of_;
};

}  // namespace madang
