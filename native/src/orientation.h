// How a photograph is turned: EXIF orientation, from EXIF or XMP, as Pillow finds it.
#pragma once

#include <optional>
#include <string>

#include "decoding.h"
#include "pixels.h"

namespace vqi {

// The orientation that EXIF states, behind any "Exif\0\0"; nothing where it states none. Throws BadInput where it is
// damaged or of an unusual form.
std::optional<int> exif_orientation(Bytes exif, const std::string &name);

// The same, of XMP.
std::optional<int> xmp_orientation(const Bytes &xmp);

// An image as it is shown: `orientation` 2 to 8 turns or mirrors it, any other leaves it.
template <typename Value>
Plane<Value> upright(Plane<Value> image, int orientation);

}  // namespace vqi
