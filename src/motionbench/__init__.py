"""CNN-LSTM or ConvLSTM? An experiment-tracked comparison of video-sequence classifiers."""
