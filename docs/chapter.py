# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # CNN-LSTM and ConvLSTM, step by step
#
# A point moves through a video. Which of four patterns does it follow? This notebook draws such clips, builds the
# networks that combine a CNN with an LSTM, trains two of them, and then asks what their accuracy shows.
# It takes a few minutes on two cores. Start it with `make notebook`.
#
# The code is that of the library, `src/motionbench`, and the values are those of `params.yaml`. Nothing is written to
# `data/`, `models/` or MLflow. [The reference notebook](reference-notebook.md) says where data and networks come from.

# %%
# %matplotlib inline
import base64
import os
import sys
import tempfile
from pathlib import Path

if Path.cwd().name == "docs":
    os.chdir("..")
sys.path.insert(0, "src")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # TensorFlow logs a missing GPU

import numpy as np
import pandas as pd
from IPython.display import HTML, display

from motionbench.core.paths import ReplicateKey
from motionbench.data.decoding import read_clip
from motionbench.data.params import Preprocessing
from motionbench.data.perturbations import perturb
from motionbench.data.splits import Split
from motionbench.data.synthetic.frames import draw_clamped, draw_dataset
from motionbench.execution.runtime import importing_tensorflow
from motionbench.params.loading import load_params
from motionbench.reporting import figures

with importing_tensorflow():
    from motionbench.execution.threads import fix_threads
    from motionbench.models.networks import build_model
    from motionbench.training.loop import build_replicate, fit_epochs, summarise

params = load_params()
fix_threads(params.training.threads, operations=os.cpu_count())  # the same weights in each run

# %% [markdown]
# ## The four patterns
#
# The point stands still, goes up, goes down, or follows a sine. In each frame it is a little beside its path.


# %%
def draw(drawing):
    dataset = draw_dataset(drawing)
    splits = {
        name: Split(np.concatenate(list(new.batches)), new.labels, tuple(new.class_names))
        for name, new in dataset.splits.items()
    }
    return dataset.info, splits


def show(clips):
    shown = []
    with tempfile.TemporaryDirectory() as folder:
        for name, clip in clips.items():
            figures.save_gif(clip, path := Path(folder, "clip.gif"))
            content = base64.b64encode(path.read_bytes()).decode()
            shown.append(f'<p>{name}<br><img src="data:image/gif;base64,{content}"></p>')
    return HTML("".join(shown))


drawing = params.synthetic.drawing(params.data)
info, splits = draw(drawing)
train, validation, test = splits.values()
show(figures.first_clips(train))

# %% [markdown]
# The same clips as pictures. On the right: all frames in one, from dark (early) to bright (late).

# %%
figures.contact_sheet(train)

# %% [markdown]
# ## The shape of the data
#
# A network for videos takes five axes: clips, frames, rows, columns and channels. Pixels are whole numbers from 0 to
# 255; the first layer of each network divides them by 255. A label is the number of a class.

# %%
pd.DataFrame({name: [each.clips.shape, each.clips.dtype, each.labels.shape] for name, each in splits.items()}).set_axis(
    ["shape of the clips", "type", "shape of the labels"]
)

# %% [markdown]
# ## Three ways to combine a CNN and an LSTM
#
# 1. **Layer by layer:** each layer of the CNN is applied to each frame. What comes out is a sequence of vectors, which
#    an LSTM reads.
# 2. **The whole CNN at once:** the CNN is a model of its own, which is applied to each frame.
# 3. **ConvLSTM:** there is no CNN before the LSTM. The LSTM itself computes with convolutions, and its state is an
#    image.
#
# The first and the second are two ways to write one network: with the same weights they give the same answers.

# %%
shape, classes = params.data.clip_shape(), len(train.class_names)
by_layer = params.cnn_lstm.model_copy(update={"time_distributed": "per_layer"})
at_once = params.cnn_lstm.model_copy(update={"time_distributed": "whole_cnn"})
first, second = (build_model("cnn_lstm", section, shape, classes) for section in (by_layer, at_once))
third = build_model("convlstm", params.convlstm, shape, classes)

second.set_weights(first.get_weights())
some = test.clips[:8]
print("largest difference of the first two:", np.abs(np.asarray(first(some)) - np.asarray(second(some))).max())

# %% [markdown]
# The first way. Its convolutions are small; three quarters of its weights are in the LSTM.

# %%
print(summarise(first))
print(f"{first.count_params():,} parameters")

# %% [markdown]
# The second way has the same number of parameters, in fewer rows:

# %%
print(summarise(second))
print(f"{second.count_params():,} parameters")

# %% [markdown]
# The third way has about twice as many, since each of the four gates has convolutions of the input and of the state:

# %%
print(summarise(third))
print(f"{third.count_params():,} parameters")

# %% [markdown]
# ## Training
#
# Training stops when the validation loss is small enough (`training.target_loss`), or after the model's `epochs`.


# %%
def fit(name, section, info, splits):
    train, validation, _ = splits.values()
    model, key, epochs = build_replicate(name, section, train, seed=0), ReplicateKey(seed=0), []
    for epoch in fit_epochs(model, name, key, section, params.training, info, train, validation):
        epochs.append(epoch)
        if epoch["validation_loss"] <= params.training.target_loss:
            break
    return model, pd.DataFrame(epochs)


fitted = {name: fit(name, params.model(name), info, splits) for name in ("cnn_lstm", "convlstm")}
figures.learning_curves({name: history for name, (_, history) in fitted.items()})

# %% [markdown]
# ## Accuracy
#
# The test clips were used for nothing so far.


# %%
def accuracy(model, clips, labels):
    return model.evaluate(clips, labels, verbose=0, return_dict=True)["accuracy"]


pd.Series({name: accuracy(model, test.clips, test.labels) for name, (model, _) in fitted.items()}, name="accuracy")

# %% [markdown]
# ## What this shows, and what it does not
#
# Did the networks learn to see motion? A *control* is a model that cannot: `single_frame` sees the first frame alone,
# `bag_of_frames` all frames but not their order.

# %%
controls = {name: fit(name, params.model(name), info, splits)[0] for name in ("single_frame", "bag_of_frames")}
pd.Series({name: accuracy(model, test.clips, test.labels) for name, model in controls.items()}, name="accuracy")

# %% [markdown]
# Where the controls are as good, the clips can be told without motion: here each pattern starts at another place, and
# one frame is enough. So the accuracy above says nothing about motion.
#
# A second question to the trained networks: what do they answer when the frames of the test clips are in random order,
# or when the point is lower by some pixels? A network that is still right on shuffled frames does not use their order.
# One that is not uses it; that does not mean that these clips ask for it.

# %%
numbers = np.arange(len(test.labels))
changes = {"as they are": test.clips}
changes |= {
    f"{name} {level}": perturb(test.clips, numbers, name, level, 0)
    for name, level in [("shuffled", 1.0), ("shifted", 6)]
}
pd.DataFrame(
    {
        name: {change: accuracy(model, clips, test.labels) for change, clips in changes.items()}
        for name, (model, _) in fitted.items()
    }
)

# %% [markdown]
# With `synthetic.variant: motion` start, speed and size vary, so that one frame tells nothing. A control of one frame
# then guesses: one of four.

# %%
motion = drawing._replace(
    variant="motion", seed=1, frames=12, height=24, width=32, point_size=4, jitter=0.5, clips_per_class=50
)
motion_info, motion_splits = draw(motion)
section = params.single_frame.model_copy(update={"kernel_sizes": (5, 3, 3), "epochs": 5})
guessing, _ = fit("single_frame", section, motion_info, motion_splits)
on_test = accuracy(guessing, motion_splits["test"].clips, motion_splits["test"].labels)
print(f"single_frame: {on_test:.3f}")
figures.contact_sheet(motion_splits["train"])

# %% [markdown]
# To learn such clips, the networks need more of them and a quarter of an hour: [the experiment](experiments.md)
# `motion` trains all models, three times each, and its report says with intervals which one is better.
#
# ## A clip of your own
#
# Draw one: a row and a column of the point for each frame. Or name a video file, which is read as `make predict` does.

# %%
VIDEO = None  # or the path of a video file, as in "data/clips/wave/01.mp4"

if VIDEO:
    clips, _ = read_clip(Path(VIDEO), Preprocessing(*params.data.clip_shape()[:3], params.data.colour, info.resize))
else:
    time = np.linspace(0, 1, drawing.frames)
    path = np.stack([drawing.height * (0.5 + 0.4 * np.sin(9 * time)), drawing.width * (0.1 + 0.8 * time)], axis=-1)
    clips = draw_clamped(path[np.newaxis], drawing.height, drawing.width, drawing.point_size)

display(show({"yours": clips[0]}))
pd.DataFrame({name: np.asarray(model(clips))[0] for name, (model, _) in fitted.items()}, index=train.class_names)

# %% [markdown]
# A network gives a class to whatever it sees, also to a path that is none of the four.
#
# ## Where to go from here
#
# - `make repro` runs all of this as a pipeline: three replicates of each model, perturbations, a report, a champion.
# - [Your own clips](own-clips.md): what to do with more than one video file.
# - [Adding a model](adding-a-model.md): a fourth way.
