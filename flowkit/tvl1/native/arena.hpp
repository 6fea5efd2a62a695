// Memory of planes: chunks that the system is asked to back with huge pages.
#pragma once

#include <cstddef>
#include <memory>

namespace flowkit {

// Take `count` floats that begin a page (4 KiB); what they hold is undefined. A thread takes them
// from its chunk, one behind the other. It keeps that chunk; another is freed when all that was
// taken from it has been given back. Throws std::bad_alloc.
std::shared_ptr<float> take_floats(size_t count);

}  // namespace flowkit
