// The paged cache of keys and values. A page holds 16 positions of one sequence: all heads of the layers of one group, as
// float16 (docs/decisions/0004) or int8 with scales (0011). All groups' pages have one size, that of the largest (0012). How they lie is told at AttentionTile (kernels/kernels.h).
#pragma once
#include <span>
#include <vector>

#include "kernels/kernels.h"
#include "shape.h"

namespace madang {

class Cache {
public:
    // Where a head's key and value of one position lie; the page is one of the layer's group.
    struct Place {
        int layer, kv_head, page, slot;
    };

    Cache(const DecoderShape& shape, KvType type);

    // Makes room for at least n pages; earlier ones keep their content and their place.
    void reserve(int n);
    int n_pages() const { return int(pages_.size()); }
    KvType type() const { return type_; }
    size_t page_bytes() const { return page_bytes_; }
    // The group of a layer: which of a sequence's page tables tells where it lies.
    int group(int layer) const { return groups_[size_t(layer)]; }
    int n_groups() const { return n_groups_; }
    int value_stride() const { return value_stride_; }
    int padded_head() const { return key_groups(head_dim_) * kBlock; }

    // The content of a page, to share its beginning or to save it. Throws std::invalid_argument for a page that does not
    // exist, and for bytes that are not a page.
    void copy(int from, int to);
    std::span<const uint8_t> read(int page) const;
    void write(int page, std::span<const uint8_t> bytes);

    // Write one head's key or value, zero-padded to padded_head() and value_stride(). `scratch` has 2 * padded_head() bytes,
    // aligned to 2.
    void put_key(const Kernels& kernels, const Place& place, const float* key, uint8_t* scratch);
    void put_value(const Kernels& kernels, const Place& place, const float* value);
    float key_element(const Place& place, int element) const;

    const uint8_t* const* pages() const { return pages_.data(); }
    // Bytes from the start of a page.
    size_t key_offset(int layer, int kv_head) const {
        return (size_t(index_in_group_[size_t(layer)]) * n_kv_heads_ + kv_head) * head_bytes_;
    }
    size_t value_offset(int layer, int kv_head) const { return key_offset(layer, kv_head) + key_bytes_; }

private:
    void require(int page) const;
    uint8_t* keys(const Place& at) const { return pages_[at.page] + key_offset(at.layer, at.kv_head); }
    uint8_t* values(const Place& at) const { return pages_[at.page] + value_offset(at.layer, at.kv_head); }
    // The scales of int8 keys, [key_groups][16], and values, [16].
    float* key_scales(const Place& at) const { return reinterpret_cast<float*>(keys(at) + padded_head() * kPageTokens); }
    float* value_scales(const Place& at) const { return reinterpret_cast<float*>(values(at) + value_stride_ * kPageTokens); }

    KvType type_;
    int n_kv_heads_, head_dim_, value_stride_;
    int n_groups_;
    std::vector<int> groups_, index_in_group_;  // per layer
    size_t key_bytes_, head_bytes_, page_bytes_;
    std::vector<Buffer> slabs_;  // of pages
    std::vector<uint8_t*> pages_;
};

}  // namespace madang
