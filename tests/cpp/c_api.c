/* c_api HOW FOLDER THREADS [FILE HEIGHT WIDTH STRIDE FORMAT]...
 * Opens the model (HOW: folder, bytes, embedded) and prints a line of JSON for each picture: the status, and the faces.
 * Where it does not open, one line with the status. Plain C, as Swift reads the header. */

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "facedeploy.h"

static facedeploy_bytes contents(const char* folder, const char* name) {
    char path[4096];
    snprintf(path, sizeof path, "%s%s%s", folder, folder[0] != '\0' ? "/" : "", name);
    facedeploy_bytes all = {NULL, 0};
    FILE* file = fopen(path, "rb");
    if (file == NULL) return all;
    fseek(file, 0, SEEK_END);
    all.size = (size_t)ftell(file);
    rewind(file);
    /* Exactly as large, so that a sanitizer sees one byte too far. */
    void* data = malloc(all.size > 0 ? all.size : 1);
    if (data == NULL || fread(data, 1, all.size, file) != all.size) exit(3);
    all.data = data;
    fclose(file);
    return all;
}

static facedeploy_status open_bytes(const char* folder, int threads, facedeploy_detector** detector) {
    facedeploy_bytes files[16];
    size_t count = 0;
    for (; facedeploy_file_name(count) != NULL; ++count) files[count] = contents(folder, facedeploy_file_name(count));
    const facedeploy_status status = facedeploy_open_bytes(files, count, threads, detector);
    for (size_t i = 0; i < count; ++i) free((void*)files[i].data);
    return status;
}

static void number(const char* name, float value) {
    if (!isnan(value)) printf(", \"%s\": %.9g", name, (double)value);
}

static void print(const facedeploy_face* face) {
    printf("{\"box\": [%.17g, %.17g, %.17g, %.17g]", face->x1, face->y1, face->x2, face->y2);
    number("score", face->score);
    number("yaw", face->yaw);
    number("pitch", face->pitch);
    number("roll", face->roll);
    for (size_t i = 0; i < face->landmark_count; ++i) {
        printf("%s[%.17g, %.17g]", i == 0 ? ", \"landmarks\": [" : ", ", face->landmarks[2 * i],
               face->landmarks[2 * i + 1]);
    }
    printf("%s}", face->landmark_count > 0 ? "]" : "");
}

int main(int count, char** words) {
    if (count < 4) return 3;
    const int threads = atoi(words[3]);
    facedeploy_detector* detector = (facedeploy_detector*)words;
    facedeploy_status status = FACEDEPLOY_BAD_CALL;
    if (strcmp(words[1], "folder") == 0) status = facedeploy_open_folder(words[2], threads, &detector);
    if (strcmp(words[1], "bytes") == 0) status = open_bytes(words[2], threads, &detector);
    if (strcmp(words[1], "embedded") == 0) status = facedeploy_open_embedded(threads, &detector);
    if (strcmp(words[1], "null") == 0) {
        const facedeploy_face* faces = NULL;
        size_t found = 1;
        facedeploy_picture none = {NULL, 1, 1, 3, FACEDEPLOY_BGR};
        facedeploy_close(NULL);
        printf("[%d, %d, %d, %d, %d, %d]\n", facedeploy_open_folder("", 1, NULL),
               facedeploy_open_folder(NULL, 1, &detector), facedeploy_open_bytes(NULL, 2, 1, &detector),
               facedeploy_open_bytes(NULL, 0, 1, &detector),
               facedeploy_detect(NULL, &none, &faces, &found), facedeploy_detect(NULL, NULL, NULL, NULL));
        return detector == NULL && faces == NULL && found == 0 ? 0 : 3;
    }
    if ((status == FACEDEPLOY_OK) != (detector != NULL)) return 3;
    if (status != FACEDEPLOY_OK) printf("{\"status\": %d, \"message\": \"%s\"}\n", status, facedeploy_message(status));
    for (int i = 4; detector != NULL && i + 4 < count; i += 5) {
        facedeploy_bytes pixels = {NULL, 0};
        if (strcmp(words[i], "null") != 0) pixels = contents("", words[i]);
        const facedeploy_picture picture = {(const uint8_t*)pixels.data, atoi(words[i + 1]), atoi(words[i + 2]),
                                            (size_t)atol(words[i + 3]), atoi(words[i + 4])};
        const facedeploy_face* faces = NULL;
        size_t found = 0;
        status = facedeploy_detect(detector, &picture, &faces, &found);
        printf("{\"status\": %d, \"message\": \"%s\", \"faces\": [", status, facedeploy_message(status));
        for (size_t k = 0; k < found; ++k) {
            if (k > 0) printf(", ");
            print(&faces[k]);
        }
        printf("]}\n");
        free((void*)pixels.data);
    }
    facedeploy_close(detector);
    return 0;
}
