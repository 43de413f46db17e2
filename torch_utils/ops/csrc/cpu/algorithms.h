// Convolution algorithms with few multiplications, as constant matrices.
//
// Source: Lavin and Gray 2016 (arXiv:1509.09308). For a row of results, with * for products value
// by value: results = Out ((Kernel taps) * (Image pixels)); in two dimensions each matrix acts on
// rows and on columns. Interpolation points were chosen for small rounding errors, after Barabasz
// et al. 2018 (arXiv:1803.10986).
#pragma once

#include <cstdint>

// kPlaces products a row of results, of kPixels pixels with kKernels combinations of the taps: the
// last combination takes part in all places from its own on.

struct Stride1 {
    // F(4, 3) with the points 0, 1, -1, 1/2, -2 and infinity: 36 products instead of 144.
    static constexpr int kStep = 1, kMargin = 1, kPixels = 6, kPlaces = 6, kKernels = 6;
    static constexpr float kImage[kPlaces][kPixels] = {
        {1, -1.5f, -2, 1.5f, 1, 0}, {0, -1, 0.5f, 2.5f, 1, 0},  {0, 1, -2.5f, 0.5f, 1, 0},
        {0, -2, -1, 2, 1, 0},       {0, 0.5f, -1, -0.5f, 1, 0}, {0, 1, -1.5f, -2, 1.5f, 1},
    };
    static constexpr float kKernel[kKernels][3] = {
        {1, 0, 0},
        {1 / 3.f, 1 / 3.f, 1 / 3.f},
        {-1 / 3.f, 1 / 3.f, -1 / 3.f},
        {-16 / 15.f, -8 / 15.f, -4 / 15.f},
        {1 / 15.f, -2 / 15.f, 4 / 15.f},
        {0, 0, 1},
    };
    static constexpr float kOut[4][kPlaces] = {
        {1, 1, 1, 1, 1, 0},
        {0, 1, -1, 0.5f, -2, 0},
        {0, 1, 1, 0.25f, 4, 0},
        {0, 1, -1, 0.125f, -8, 1},
    };
};

struct Stride2 {
    // The outer taps meet only even pixels: F(4, 2) with the points 0, 1, -1, 2 and infinity. The
    // middle tap meets only odd ones: plain products. Together 81 products instead of 144.
    static constexpr int kStep = 2, kMargin = 0, kPixels = 9, kPlaces = 9, kKernels = 6;
    static constexpr float kImage[kPlaces][kPixels] = {
        {2, 0, -1, 0, -2, 0, 1, 0, 0}, {0, 0, -2, 0, -1, 0, 1, 0, 0},
        {0, 0, 2, 0, -3, 0, 1, 0, 0},  {0, 0, -1, 0, 0, 0, 1, 0, 0},
        {0, 0, 2, 0, -1, 0, -2, 0, 1}, {0, 1, 0, 0, 0, 0, 0, 0, 0},
        {0, 0, 0, 1, 0, 0, 0, 0, 0},   {0, 0, 0, 0, 0, 1, 0, 0, 0},
        {0, 0, 0, 0, 0, 0, 0, 1, 0},
    };
    static constexpr float kKernel[kKernels][3] = {
        {0.5f, 0, 0},           {-0.5f, 0, -0.5f}, {-1 / 6.f, 0, 1 / 6.f},
        {1 / 6.f, 0, 1 / 3.f}, {0, 0, 1},         {0, 1, 0},
    };
    static constexpr float kOut[4][kPlaces] = {
        {1, 1, 1, 1, 0, 1, 0, 0, 0},
        {0, 1, -1, 2, 0, 0, 1, 0, 0},
        {0, 1, 1, 4, 0, 0, 0, 1, 0},
        {0, 1, -1, 8, 1, 0, 0, 0, 1},
    };
};

// The matrices as functions of (row, column), so that loops over them unroll to constants.
template <class Algorithm>
struct Image {
    static constexpr int rows = Algorithm::kPlaces, columns = Algorithm::kPixels;
    static constexpr float at(int i, int j) { return Algorithm::kImage[i][j]; }
};
template <class Algorithm>
struct Kernel {
    static constexpr int rows = Algorithm::kKernels, columns = 3;
    static constexpr float at(int i, int j) { return Algorithm::kKernel[i][j]; }
};
template <class Algorithm>
struct Out {
    static constexpr int rows = 4, columns = Algorithm::kPlaces;
    static constexpr float at(int i, int j) { return Algorithm::kOut[i][j]; }
};
template <class Matrix>
struct Transposed {
    static constexpr int rows = Matrix::columns, columns = Matrix::rows;
    static constexpr float at(int i, int j) { return Matrix::at(j, i); }
};

// The places, in two dimensions, in which a combination of taps takes part.
template <class Algorithm>
struct PlacesOf {
    int first_y, end_y, first_x, end_x;
    explicit PlacesOf(int64_t kernel)
        : first_y(int(kernel / Algorithm::kKernels)), end_y(end(first_y)),
          first_x(int(kernel % Algorithm::kKernels)), end_x(end(first_x)) {}
    static constexpr int end(int first) {
        return first + 1 == Algorithm::kKernels ? Algorithm::kPlaces : first + 1;
    }
    template <class Function>
    void for_each(Function function) const {
        for (int y = first_y; y < end_y; y++)
            for (int x = first_x; x < end_x; x++) function(int64_t(y * Algorithm::kPlaces + x));
    }
};
