//! The words in pictures, in the languages of the documents.

/// The language of the words in a picture. Names of layers, tensors, operators and files stay as they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Language {
    /// English.
    #[default]
    English,
    /// Chinese in Simplified characters.
    Chinese,
}

impl Language {
    /// Its BCP 47 code. A browser chooses the forms of Chinese characters by it.
    pub fn code(self) -> &'static str {
        self.of("en", "zh-Hans")
    }

    fn of<T>(self, english: T, chinese: T) -> T {
        match self {
            Self::English => english,
            Self::Chinese => chinese,
        }
    }

    /// The title of the picture of a network with its three cuts.
    pub(super) fn one_network(self, name: &str) -> String {
        self.of(format!("{name}: one network, three graphs"), format!("{name}：一个网络，三张计算图"))
    }

    /// The title of the picture of a network's layers.
    pub(super) fn layers_of(self, name: &str) -> String {
        self.of(format!("{name}: the layers"), format!("{name}：各层"))
    }

    /// The title of the graph inside a Loop.
    pub(super) fn body_of(self, name: &str) -> String {
        self.of(format!("the body of {name}, once a token"), format!("{name} 的循环体，每个 token 执行一次"))
    }

    /// What the training graph reads.
    pub(super) fn whole_texts(self, file: &str) -> String {
        self.of(
            format!("{file}: whole texts, teacher forcing"),
            format!("{file}：读入整句，教师强制（teacher forcing）"),
        )
    }

    /// How often the encoder is called.
    pub(super) fn once_a_text(self, file: &str) -> String {
        self.of(format!("{file}: once a text"), format!("{file}：每句话调用一次"))
    }

    /// How often the decoder is called.
    pub(super) fn once_a_token(self, file: &str) -> String {
        self.of(format!("{file}: once a token"), format!("{file}：每个 token 调用一次"))
    }

    /// What goes back into the decoder, a line each.
    pub(super) fn feedback(self) -> [&'static str; 4] {
        self.of(
            ["decoding:", "best token", "and states", "go back in"],
            ["解码：", "最佳 token", "和新的状态", "再送回去"],
        )
    }

    /// Above the weights of the files.
    pub(super) fn weights_in_files(self) -> &'static str {
        self.of(
            "Weights in each file: the same name, the same bytes (dashed: computed from them)",
            "各文件里的权重：名字相同，就逐字节相同（虚线框：由它们计算得出）",
        )
    }

    /// The counts of one file.
    pub(super) fn file_totals(self, file: &str, weights: &str, megabytes: f64, nodes: usize) -> String {
        self.of(
            format!("{file}: {weights} weights, {megabytes:.2} MB, {nodes} nodes"),
            format!("{file}：{weights} 个权重，{megabytes:.2} MB，{nodes} 个节点"),
        )
    }

    /// Behind the name of a tensor that is computed from the weight W.
    pub(super) fn of_w(self) -> &'static str {
        self.of(" of W", "，由 W 得出")
    }

    /// How many numbers of a layer are trained.
    pub(super) fn parameters(self, count: &str) -> String {
        self.of(format!("{count} parameters"), format!("{count} 个参数"))
    }

    /// What dashed arrows are.
    pub(super) fn dashed(self) -> &'static str {
        self.of("dashed: which places are padding", "虚线：哪些位置是填充")
    }
}
