#ifndef CPIOIMAGE_H
#define CPIOIMAGE_H
#endif
