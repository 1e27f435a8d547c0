// Rows of float32 activations, and the forms in which the matrices that read them want them.
#pragma once
#include "kernels/kernels.h"

namespace madang {

class Rows {
public:
    // Room for rows of n elements. `outlier` as in Kernels::quantize; 0 keeps 15 bits everywhere.
    void set_width(int n, float outlier = 0);
    // Asks for the form of activations that products with this matrix take. True when it was not asked for before: rows that
    // there are have no room for it.
    bool add_reader(const PackedMatrix& matrix, const Kernels& kernels);
    // Makes room for n rows; what was there is lost.
    void resize(int n);
    int size() const { return n_rows_; }
    int width() const { return width_; }  // elements between rows, a multiple of 32; those beyond the n stay 0

    float* row(int t) const { return reinterpret_cast<float*>(floats_.data()) + size_t(t) * width_; }
    // Fills the other forms of a row from its floats.
    void encode(const Kernels& kernels, int t) const;
    Activations activations() const;
    Output output(bool accumulate = false) const { return {row(0), width_, accumulate}; }

private:
    int width_ = 0, n_rows_ = 0;
    bool wants_quants_ = false, wants_bfloats_ = false;
    float outlier_ = 0;
    Buffer floats_, bfloats_, blocks_;
};

}  // namespace madang
