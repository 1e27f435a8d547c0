// The paged cache of keys and values. A page holds 16 positions of one sequence: all layers and heads, as float16, keys as
// [head_dim][16] and values as [16][value_stride] (docs/decisions/0004).
#pragma once
#include <span>
#include <vector>

#include "kernels/kernels.h"
#include "shape.h"

namespace madang {

class Cache {
public:
    explicit Cache(const DecoderShape& shape);

    // Makes room for at least n pages; earlier ones keep their content and their place.
    void reserve(int n);
    int n_pages() const { return int(pages_.size()); }
    size_t page_bytes() const { return page_elements_ * sizeof(uint16_t); }
    int value_stride() const { return value_stride_; }

    // The content of a page, to share its beginning or to save it. Throws std::invalid_argument for a page that does not
    // exist, and for bytes that are not a page.
    void copy(int from, int to);
    std::span<const uint8_t> read(int page) const;
    void write(int page, std::span<const uint8_t> bytes);

    uint16_t* page(int index) const { return pages_[index]; }
    const uint16_t* const* pages() const { return pages_.data(); }
    // Elements from the start of a page.
    size_t key_offset(int layer, int kv_head) const { return (size_t(layer) * n_kv_heads_ + kv_head) * head_elements_; }
    size_t value_offset(int layer, int kv_head) const { return key_offset(layer, kv_head) + key_elements_; }

private:
    void require(int page) const;

    int n_kv_heads_, value_stride_;
    size_t key_elements_, head_elements_, page_elements_;
    std::vector<Buffer> slabs_;  // of pages
    std::vector<uint16_t*> pages_;
};

}  // namespace madang
