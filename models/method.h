/* method.h - a detection method as one struct of functions, and the models made with it.
 *
 * A method knows nothing of files, loops, devices or command lines. Its tensors come from a source and go to a sink, both
 * given by the caller. Adding a method = one file in models/, one line in the registry (method.c), its tests. */
#ifndef ADZE_MODELS_METHOD_H
#define ADZE_MODELS_METHOD_H

#include <stdbool.h>
#include <stdint.h>

#include "core/context.h"
#include "core/graph.h"
#include "core/noise.h"
#include "core/optim_step.h"
#include "core/options.h"
#include "core/params.h"
#include "core/tensor.h"
#include "core/text.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Looks a tensor up by name: float32, row-major, borrowed until the next call. ADZE_EINPUT if there is none. */
typedef struct {
    adze_status (*find)(void *user, const char *name, adze_shape *shape, const float **data);
    void *user;
} adze_tensor_source;

typedef enum { ADZE_TENSOR_F32, ADZE_TENSOR_I64 } adze_tensor_type;
/* Receives the tensors of a model, borrowed during the call. */
typedef struct {
    adze_status (*put)(void *user, const char *name, adze_tensor_type type, adze_shape shape, const void *data);
    void *user;
} adze_tensor_sink;

/* Pictures that a method with synthetic defects pastes. n 0: there are none, the method makes its own. */
typedef struct {
    int64_t n;
    /* Number i of n, of the size and channel order of the pictures under training: rgb (H,W,3). From several threads at a time. */
    adze_status (*read)(void *user, int64_t i, unsigned char *rgb);
    /* Numbers first .. first + count - 1 show what training picture `item` shows and are not for it; NULL: all are for all. */
    void (*own)(void *user, int64_t item, int64_t *first, int64_t *count);
    const char *what; /* a line for people; borrowed as long as the model lives */
    void *user;
} adze_texture_source;

/* Long work reports here on the caller's thread; false stops it (ADZE_EINTERRUPTED). */
typedef struct {
    bool (*step)(void *user, const char *what, int64_t done, int64_t total);
    void *user;
} adze_work_progress;

typedef struct {
    adze_ctx *ctx;               /* borrowed by the model */
    const char *backbone;        /* a name of models/backbone.h */
    bool folded;                 /* its weights have batch norm folded in */
    int64_t H, W, batch;
    uint64_t seed;
    const adze_options *options; /* the method's own; borrowed during create */
    adze_tensor_source weights;  /* the backbone's tensors by their reference names; used during create */
    adze_texture_source textures; /* methods that paste some, models that will be fitted */
    bool fit;                    /* the model will be fitted; else it will be loaded and score only */
    bool from_features;          /* methods with `frozen`: it will be fitted by fit_add_features() */
} adze_model_setup;

typedef struct adze_model adze_model; /* opaque: one per method and category */

/* Memory that a phase will take beyond what the process holds now; `what` NULL ends the list. */
typedef struct {
    const char *what;
    size_t n_bytes;
    bool counted; /* it is allocated, and counted by core/memory.h, but not touched yet */
} adze_memory_item;
enum { ADZE_MEMORY_ITEMS = 12 };

/* How the learning rate goes on from its value at the start. */
typedef enum {
    ADZE_RATE_STEP,     /* times 0.1 behind 80 % of the epochs */
    ADZE_RATE_CONSTANT,
    ADZE_RATE_META      /* CFlow's: by meta epochs, a warm-up over the first two */
} adze_rate;

/* How a method is trained by gradients: the benchmark's constants. */
typedef struct {
    int64_t epochs, batch;
    double lr;
    adze_rate rate;
    bool replace; /* the pictures of an epoch are drawn with replacement; else each one comes at most once, in random order */
} adze_recipe;

enum { ADZE_LOSS_TERMS = 6, ADZE_TRAINING_PARTS = 6, ADZE_TRAINING_OPTIMS = 6, ADZE_TRAINING_INPUTS = 4 };

typedef struct {
    adze_optim_opts opts; /* its prefixes say which parameters it holds; names of several differ */
    double lr_factor;     /* times the rate of the schedule */
} adze_training_optim;

/* What is done with a batch of pictures: `runs` times forward from the image to `loss`, backward, and a step of optimisers
 * first_optim .. first_optim + n_optims - 1. Parameters that these do not hold are constants in this part. */
typedef struct {
    const char *name;              /* for people; "" if there is one part only */
    adze_value loss;
    int64_t first_epoch, n_epochs; /* the part rests in other epochs; n_epochs 0: to the end */
    int64_t runs;                  /* may be 0 */
    int first_optim, n_optims;
} adze_training_part;

/* An input of the graph besides the image. What depends on one cannot be kept from epoch to epoch; the plan sees that. */
typedef struct {
    const char *name;
    bool per_picture; /* the first dimension is the batch, method->picture() fills it; else it is filled before every run: */
    bool noise;       /* with the normal numbers that method->noise() names; else by method->fill() */
} adze_training_input;

/* What the trainer needs of a model under training. The graph's input "image" is (batch,H,W,3), normalised; everything that
 * depends on the image alone and on no trainable parameter may be computed once per image and kept. For every batch of
 * pictures, which is one step of the learning rate and of the log, the parts of the epoch are done in order. */
typedef struct {
    adze_graph *graph;   /* borrowed, as all here */
    adze_params *params; /* initialised */
    adze_value image;
    double rotate;       /* pictures are turned by a random angle of at most so many degrees, anew in every epoch; 0: they are not */
    int64_t meta_epochs; /* of ADZE_RATE_META */
    adze_training_part part[ADZE_TRAINING_PARTS];
    int n_parts;
    adze_training_optim optim[ADZE_TRAINING_OPTIMS];
    int n_optims;
    adze_training_input input[ADZE_TRAINING_INPUTS];
    int n_inputs;
    const char *term_name[ADZE_LOSS_TERMS]; /* what is logged besides the mean of the losses; kept outputs of the graph, (1) */
    int term_part[ADZE_LOSS_TERMS];         /* each is a part of, or is, the loss of this part */
    int n_terms;
} adze_training;

/* Where a training is; all counted from 0, the step over all epochs. Random numbers are functions of this and of the seed. */
typedef struct {
    uint64_t seed;
    int64_t epoch, step, run;
    int part;
} adze_training_at;

/* A picture on its way into a batch. */
typedef struct {
    uint64_t seed;
    int64_t epoch, draw, item;   /* the draw-th picture of the epoch is number `item` of the data set */
    const unsigned char *pixels; /* (H,W,3), resized */
    const float *mean, *std;     /* (3) of the normalisation of pixel/255 */
} adze_training_picture;

/* What fitting without gradients reads of a picture: values that depend on nothing else, and may be kept. */
enum { ADZE_FROZEN_VALUES = 8 };
typedef struct {
    adze_graph *graph;   /* borrowed, as all here */
    adze_params *params;
    adze_value image;    /* (batch,H,W,3), normalised */
    adze_value value[ADZE_FROZEN_VALUES]; /* kept outputs of the graph; their first dimension is the batch */
    int n;
} adze_frozen_part;

typedef struct adze_method {
    const char *name, *summary, *source; /* source: paper and code that define it */
    const adze_option *options;
    size_t n_options;
    const char *backbone;                /* the benchmark's choice */
    int64_t batch;                       /* default batch of images */
    int64_t seed;                        /* default */
    int64_t pooling;                     /* image score: 0 = maximum of the map, else of its pooling x pooling mean */

    bool pastes_textures;                /* setup->textures is used; the option "textures" may name a folder */
    const adze_recipe *recipe;           /* NULL: a method without gradients, which has the fit_ functions */

    adze_status (*create)(adze_model **out, const adze_model_setup *setup);
    void (*destroy)(adze_model *m);
    /* Whether pictures come as OpenCV reads and resizes them, blue first; else as Pillow does. NULL: never. */
    bool (*reads_as_opencv)(const adze_model *m);
    /* Whether score()'s own number is a picture's score; else the evaluator takes it from the map. NULL: never. */
    bool (*scores_images)(const adze_model *m);
    /* What fitting on n_images will allocate. */
    void (*memory)(const adze_model *m, int64_t n_images, adze_memory_item items[ADZE_MEMORY_ITEMS]);
    /* The same of a device with memory of its own: what fitting, or scoring a batch, will allocate there. NULL: nothing. */
    void (*device_memory)(const adze_model *m, int64_t n_images, adze_memory_item items[ADZE_MEMORY_ITEMS]);
    /* Methods with a recipe, models with setup->fit. */
    void (*training)(adze_model *m, int64_t epochs, adze_training *out);
    /* What an input that is noise consists of in the run that comes next. NULL if there is none. */
    adze_noise (*noise)(const adze_model *m, const adze_training_at *at, const char *input);
    /* Fills another input that is not per picture, in its shape, for the run that comes next. NULL if there is none. */
    adze_status (*fill)(adze_model *m, const adze_training_at *at, const char *input, float *x);
    /* Fills one picture's part of the inputs that are per picture; x in the order of adze_training.input, NULL for others.
     * Called for several pictures at a time. NULL if there is none. */
    adze_status (*picture)(const adze_model *m, const adze_training_picture *p, float *const *x);
    /* Methods without gradients: begin, add every image once, end. x (batch,H,W,3) normalised, the first n count. */
    adze_status (*fit_begin)(adze_model *m, int64_t n_images);
    adze_status (*fit_add)(adze_model *m, const float *x, int64_t n);
    adze_status (*fit_end)(adze_model *m, const adze_work_progress *progress);
    /* Instead of fit_add, for models with setup->from_features: value k of `frozen` in x[k], the first n of the batch count.
     * Both NULL: the method cannot. */
    void (*frozen)(adze_model *m, adze_frozen_part *out);
    adze_status (*fit_add_features)(adze_model *m, const float *const *x, int64_t n);
    /* Images of one training pass that are used: the benchmark's loader drops some. Sets keep[i]. */
    void (*fit_choose)(const adze_model *m, int64_t n_images, bool *keep);
    /* Everything that scoring needs besides the setup. */
    adze_status (*save)(const adze_model *m, const adze_tensor_sink *sink);
    adze_status (*load)(adze_model *m, const adze_tensor_source *source);
    /* x as for fit_add -> map (n,H,W); own (n): the model's own image score, NULL allowed. */
    adze_status (*score)(adze_model *m, const float *x, int64_t n, float *map, float *own);
    /* Methods whose maps depend on all pictures that are scored together: score() gives raw_floats() numbers per picture in place
     * of a map, settle() looks at those of all pictures (n, raw_floats), then finish() makes maps of some. NULL: score() gives maps. */
    int64_t (*raw_floats)(const adze_model *m);
    adze_status (*settle)(adze_model *m, const float *raw, int64_t n);
    adze_status (*finish)(adze_model *m, const float *raw, int64_t n, float *map);
    /* One line of facts for people and run records, after fitting or scoring. */
    void (*facts)(const adze_model *m, adze_text *text);
    /* Engines of libraries in the model's plans (adze_plan_engines); NULL for methods with a recipe, whose plans the trainer has. */
    adze_status (*engines)(const adze_model *m, adze_text *list);
    /* Tables of the model's plans. */
    void (*print_plan)(const adze_model *m, adze_text *text);
} adze_method;

/* The registry, in the order of the benchmark's table; NULL past the end. */
const adze_method *adze_method_at(int i);
/* ADZE_EINVAL with the nearest known name. */
adze_status adze_method_find(const char *name, const adze_method **out);

#ifdef __cplusplus
}
#endif
#endif
