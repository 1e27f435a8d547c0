// A decoder-only transformer: weights, paged KV cache, and whole forward steps over a batch of tokens of any sequences.
#pragma once
#include <algorithm>
#include <initializer_list>
#include <span>
#include <string>
#include <vector>

#include "cpu.h"
#include "layout.h"
#include "thread_pool.h"

namespace madang {

struct DecoderShape {
    int n_layers, n_embd, n_heads, n_kv_heads, head_dim, n_ff, vocab_size;
    float norm_epsilon;
    bool rope_interleaved;                    // pairs (2i, 2i+1), else (i, i + n/2)
    std::vector<float> inverse_frequencies;   // one per pair; 2 * size() <= head_dim elements are rotated
    float rope_magnitude;
    std::vector<int> window_tokens;           // per layer; 0 is unlimited
};

// One forward step: token i stands at positions[i] of sequence sequences[i], whose cache pages are page_tables[sequence *
// page_table_stride ...]. A sequence's tokens come in rising order of position, and all earlier positions are in the cache.
struct Batch {
    std::span<const int32_t> tokens, positions, sequences;
    std::span<const int32_t> page_tables;
    int page_table_stride;
    std::span<const int32_t> outputs;  // indices of tokens whose logits are wanted
};

class Decoder {
public:
    // Blocks of activations whose largest magnitude exceeds `outlier` times their row's average keep 15 bits, others 8; 0 is
    // all. Throws std::invalid_argument for an isa that cannot run here.
    Decoder(DecoderShape shape, int n_threads, const std::string& isa, float outlier);

    // Repacks a tensor from its file bytes (rows x columns of `type`); the bytes are not needed afterwards. 1-D tensors
    // (norm weights) have one row. Throws std::invalid_argument for a wrong name, shape, size or type.
    void set_tensor(const std::string& name, uint32_t type, int rows, int columns, std::span<const uint8_t> bytes);

    // Call once after the last tensor. Throws std::invalid_argument naming the first that is missing.
    void complete();

    // Makes room for at least n pages of 16 tokens in the cache; earlier pages keep their content.
    void reserve_pages(int n);
    int n_pages() const { return int(pages_.size()); }
    size_t page_bytes() const { return page_elements() * sizeof(uint16_t); }
    size_t weight_bytes() const;

    // Runs the batch and leaves one row of logits per output. Throws std::invalid_argument when an index is out of range,
    // or the decoder is not complete.
    void step(const Batch& batch);
    // Throws std::invalid_argument when the last step left no such row.
    std::span<const float> logits(int row) const;

    const Kernels& kernels() const { return *kernels_; }
    int n_threads() const { return pool_.size(); }

private:
    struct Layer {
        PackedMatrix query, key, value, attention_output, ffn_gate, ffn_up, ffn_down;
        std::vector<float> attention_norm, ffn_norm;
    };
    // Rows of float32, and the forms in which the matrices that read them want them.
    struct Rows {
        int width = 0;  // elements between rows, a multiple of 32
        bool wants_quants = false, wants_bfloats = false;
        float outlier = 0;  // Kernels::quantize; 0 keeps 15 bits everywhere
        Buffer floats, bfloats, blocks;
        void resize(int n);
        void add_reader(const PackedMatrix& matrix, const Kernels& kernels);
        float* row(int t) const { return reinterpret_cast<float*>(floats.data()) + size_t(t) * width; }
        Activations activations() const;
        Output output(bool accumulate = false) const;
        void encode(const Kernels& kernels, int t) const;
    };
    struct QueryTile {
        int begin, end;  // consecutive tokens of one sequence
    };
    struct Product {
        const PackedMatrix* matrix;
        Output out;
    };

    PackedMatrix* find_matrix(const std::string& name, int& rows, int& columns);
    std::vector<float>* find_norm(const std::string& name);
    Layer* find_layer(const std::string& name, std::string& rest);
    const PackedMatrix& output_matrix() const { return output_.empty() ? token_embedding_ : output_; }
    int heads_per_kv() const { return shape_.n_heads / shape_.n_kv_heads; }
    int heads_per_unit() const { return std::min(heads_per_kv(), kMaxQueryTile); }
    int units_per_kv() const { return (heads_per_kv() + heads_per_unit() - 1) / heads_per_unit(); }
    size_t head_elements() const { return size_t(kPageTokens) * (shape_.head_dim + value_stride_); }
    size_t page_elements() const { return head_elements() * shape_.n_kv_heads * shape_.n_layers; }
    size_t key_offset(int layer, int kv_head) const { return (size_t(layer) * shape_.n_kv_heads + kv_head) * head_elements(); }

    void check(const Batch& batch) const;
    void prepare(const Batch& batch);
    void resize(int n_tokens);
    void forward(const Batch& batch, int thread);
    void run_layer(const Batch& batch, int index, int thread);
    template <class Work>
    void between(int n, Work work);
    void normalize(const Rows& from, const std::vector<float>& weight, const Rows& to, int source, int target) const;
    int piece_groups(int groups, int n_tokens) const;
    void multiply(std::initializer_list<Product> products, const Rows& in, int n);
    void gate_and_up(const Layer& layer, int n);
    void rotate_and_cache(const Batch& batch, int layer, int token, int thread);
    void rotate(float* head, int token) const;
    void attend(const Batch& batch, int layer, int unit, int thread);

    DecoderShape shape_;
    const Kernels* kernels_;
    ThreadPool pool_;

    PackedMatrix token_embedding_, output_;
    std::vector<float> output_norm_;
    std::vector<Layer> layers_;

    int value_stride_;
    std::vector<Buffer> slabs_;      // of pages
    std::vector<uint16_t*> pages_;

    bool is_complete_ = false;
    int n_outputs_ = 0;  // rows of logits that the last step left
    int capacity_ = 0;   // tokens that the buffers below hold
    Rows hidden_, attention_in_, ffn_in_, query_, key_, value_, attended_, gate_, up_, last_, logits_;
    std::vector<float> angles_;                  // per token: cosines, then sines
    std::vector<std::vector<float>> scratch_;    // per thread, for attention
    std::vector<std::vector<uint16_t>> halves_;  // per thread, for the cache write
    std::vector<QueryTile> tiles_;
};

}  // namespace madang
