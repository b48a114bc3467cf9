// NumPy arrays checked on their way to the kernels: every complaint is a ValueError that names the
// argument. Nothing is converted or copied.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <type_traits>

#include "runtime.hpp"

namespace fercore {

namespace py = pybind11;
using Optional = std::optional<py::array>;

[[noreturn]] inline void refuse(const char* name, const std::string& why) {
    throw py::value_error(std::string(name) + ' ' + why);
}

inline std::string to_text(const py::array& array) {
    return py::str(py::tuple(array.attr("shape")));
}

template <std::size_t Rank>
std::string to_text(const std::array<Index, Rank>& shape) {
    return py::str(py::tuple(py::cast(shape)));
}

// The data of a C-contiguous array of T, which must be writeable unless T is const.
template <class T>
T* data(const py::array& array, const char* name) {
    using Entry = std::remove_const_t<T>;
    const py::dtype expected = py::dtype::of<Entry>(), given = array.dtype();
    if (!given.equal(expected)) {
        refuse(name, "must be " + std::string(py::str(expected)) + ", not " +
                         std::string(py::str(given)));
    }
    if ((array.flags() & py::array::c_style) == 0) refuse(name, "must be C-contiguous");
    if constexpr (!std::is_const_v<T>) {
        if (!array.writeable()) refuse(name, "must be writeable");
        return static_cast<T*>(const_cast<void*>(array.data()));
    } else {
        return static_cast<T*>(array.data());
    }
}

// The same, of a given shape.
template <class T, std::size_t Rank>
T* data(const py::array& array, const char* name, const std::array<Index, Rank>& shape) {
    bool same = array.ndim() == static_cast<Index>(Rank);
    for (std::size_t i = 0; same && i < Rank; ++i) {
        same = array.shape(static_cast<Index>(i)) == shape[i];
    }
    if (!same) refuse(name, "must have shape " + to_text(shape) + ", not " + to_text(array));
    return data<T>(array, name);
}

// Null where Python gave None.
template <class T, std::size_t Rank>
T* data(const Optional& array, const char* name, const std::array<Index, Rank>& shape) {
    return array ? data<T>(*array, name, shape) : nullptr;
}

// The shape of an array that must have Rank axes.
template <std::size_t Rank>
std::array<Index, Rank> shape_of(const py::array& array, const char* name) {
    if (array.ndim() != static_cast<Index>(Rank)) {
        refuse(name, "must have " + std::to_string(Rank) + " axes, not shape " + to_text(array));
    }
    std::array<Index, Rank> shape;
    for (std::size_t i = 0; i < Rank; ++i) shape[i] = array.shape(static_cast<Index>(i));
    return shape;
}

}  // namespace fercore
