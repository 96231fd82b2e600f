// Symbol visibility: everything is hidden but what carries SPLITOP_API.
#ifndef SPLITOP_EXPORT_H_
#define SPLITOP_EXPORT_H_

#define SPLITOP_API __attribute__((visibility("default")))

#endif  // SPLITOP_EXPORT_H_
