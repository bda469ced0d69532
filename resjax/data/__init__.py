"""Sources of images, and how the images reach the device.

sources                   the table of sources, and `load`, which makes one
source, slices            splits in memory or read one by one, and slices such as train[:90%]
digits, shapes, fake      sources in memory
folder, layout, scan      folders of images
cifar                     the files of CIFAR-10 and CIFAR-100
parquet, parquet_files    Parquet files, as Hugging Face distributes them
tfds, tfds_names, prepare sets of TensorFlow Datasets

orders, philox            the example in each row of each batch, and the random numbers behind it
views                     the views that a config asks for, and their shape
statistics, mixing        what images are standardised by; mixup and CutMix
batch                     images and labels as a step takes them
resident, augment         splits held on the device, augmented inside the compiled step
streaming, reading, ring  batches that worker processes read
headers, decode           image files to pixels
transforms, random_crop   pixels to images of one size
"""
