/* The face model in plain C: what Kotlin and Swift call, and what any other language can.
 *
 * A detector is used by one thread at a time; several threads need one each. Nothing throws. */
#ifndef FACEDEPLOY_H
#define FACEDEPLOY_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* facedeploy_message says it in words. */
typedef enum facedeploy_status {
    FACEDEPLOY_OK = 0,
    FACEDEPLOY_BAD_CONFIG = 1,     /* a constant of the model is out of its range */
    FACEDEPLOY_BAD_PICTURE = 2,    /* no pixels where there should be some, or rows shorter than the picture is wide */
    FACEDEPLOY_WRONG_SIZE = 3,     /* the network gave an output of another size than the model has */
    FACEDEPLOY_NOT_FINITE = 4,     /* the network gave NaN or infinity where a number counts */
    FACEDEPLOY_NETWORK_FAILED = 5, /* what runs a network said so */
    FACEDEPLOY_BAD_CALL = 6,       /* a null pointer, or a number that an argument cannot have */
    FACEDEPLOY_NOT_LOADED = 7,     /* a file of the model is missing, or is not what it was */
    FACEDEPLOY_NOT_EMBEDDED = 8,   /* packaged without --embed: open a folder, or bytes */
    FACEDEPLOY_NO_MEMORY = 9
} facedeploy_status;

typedef enum facedeploy_format {
    FACEDEPLOY_BGR = 0,
    FACEDEPLOY_RGB = 1,
    FACEDEPLOY_BGRA = 2,
    FACEDEPLOY_RGBA = 3
} facedeploy_format;

/* 8-bit pixels, upright, `stride` bytes from one row to the next. Alpha is not read. */
typedef struct facedeploy_picture {
    const uint8_t* data;
    int32_t height;
    int32_t width;
    size_t stride;
    int32_t format; /* a facedeploy_format */
} facedeploy_picture;

/* In pixels of the picture; angles in degrees, NaN where the model has none. landmarks: x, y, x, y... */
typedef struct facedeploy_face {
    double x1;
    double y1;
    double x2;
    double y2;
    float score;
    float yaw;
    float pitch;
    float roll;
    const double* landmarks;
    size_t landmark_count;
} facedeploy_face;

typedef struct facedeploy_bytes {
    const void* data;
    size_t size;
} facedeploy_bytes;

typedef struct facedeploy_detector facedeploy_detector;

/* The model's files, by number from 0; null after the last. */
const char* facedeploy_file_name(size_t index);

/* 1 where the files are compiled in (`facedeploy package --embed`), else 0. */
int32_t facedeploy_is_embedded(void);

/* Load the model, to run on `threads` threads (1 to 1024), and give a detector, which is null where the status is not
 * FACEDEPLOY_OK: from a folder; from the contents of the files in the order of facedeploy_file_name, which may go away
 * afterwards; or as they were compiled in. */
facedeploy_status facedeploy_open_folder(const char* folder, int32_t threads, facedeploy_detector** detector);
facedeploy_status facedeploy_open_bytes(const facedeploy_bytes* files, size_t count, int32_t threads,
                                        facedeploy_detector** detector);
facedeploy_status facedeploy_open_embedded(int32_t threads, facedeploy_detector** detector);

/* Find faces, best first. They stay until the next call with this detector. */
facedeploy_status facedeploy_detect(facedeploy_detector* detector, const facedeploy_picture* picture,
                                    const facedeploy_face** faces, size_t* count);

/* Null is nothing to close. */
void facedeploy_close(facedeploy_detector* detector);

const char* facedeploy_message(facedeploy_status status);

#ifdef __cplusplus
}
#endif

#endif
