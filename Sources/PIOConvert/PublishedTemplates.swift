/// The Jinja text of published checkpoints (and of our demo), as data to compare with.
let publishedTemplates: [(name: String, jinja: String)] = [
  (
    "llava",
    #"""
    {% for message in messages %}{% if message['role'] != 'system' %}
    {{ message['role'].upper() + ': '}}{% endif %}
    {% for content in message['content'] | selectattr('type', 'equalto', 'image') %}
    {{ '<image>\n' }}{% endfor %}{% if message['role'] != 'assistant' %}
    {% for content in message['content'] | selectattr('type', 'equalto', 'text') %}
    {{ content['text'] + ' '}}{% endfor %}{% else %}
    {% for content in message['content'] | selectattr('type', 'equalto', 'text') %}
    {% generation %}{{ content['text'] + ' '}}{% endgeneration %}{% endfor %}{% endif %}
    {% endfor %}{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}
    """#
  ),
  (
    "vicuna",
    #"""
    {% for message in messages %}{% if message['role'] == 'assistant' %}{{ ' ASSISTANT: ' }}
    {% else %}{{ 'USER: ' }}{% endif %}{% if message['content'] is string %}
    {{ message['content'] }}{% else %}
    {% for content in message['content'] if content['type'] == 'image' %}{{ '<image>\n' }}
    {% endfor %}{% for content in message['content'] if content['type'] == 'text' %}
    {{ content['text'] }}{% endfor %}{% endif %}{% if message['role'] == 'assistant' %}
    {{ '</s>' }}{% endif %}{% endfor %}{% if add_generation_prompt %}{{ ' ASSISTANT:' }}{% endif %}
    """#
  ),
  // LLaVA-NeXT's three decoders. With a system part the first says it twice, which ours does not.
  (
    "llava",
    #"""
    {% for message in messages %}{% if message['role'] == 'system' %}
    {{ message['content'][0]['text'] }}{% else %}{{ message['role'].upper() + ': '}}{% endif %}
    {% for content in message['content'] | selectattr('type', 'equalto', 'image') %}
    {{ '<image>\n' }}{% endfor %}
    {% for content in message['content'] | selectattr('type', 'equalto', 'text') %}
    {{ content['text'] + ' '}}{% endfor %}{% endfor %}
    {% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}
    """#
  ),
  ("llava_mistral", llavaMistral(system: true, end: "</s> ")),
  ("llava_mistral", llavaMistral(system: true, end: #"<\s> "#)),
  ("llava_mistral", llavaMistral(system: false, end: #"<\s> "#)),
  (
    "llava_llama3",
    #"""
    {% for message in messages %}
    {{ '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n'}}
    {% for content in message['content'] | selectattr('type', 'equalto', 'image') %}
    {{ '<image>' }}{% endfor %}
    {% for content in message['content'] | selectattr('type', 'equalto', 'text') %}
    {{ '\n' + content['text'] + '<|eot_id|>' }}{% endfor %}{% endfor %}
    {% if add_generation_prompt %}
    {{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}
    """#
  ),
  (
    "llama2",
    #"""
    {% if messages[0]['role'] == 'system' %}{% set loop_messages = messages[1:] %}
    {% set system_message = messages[0]['content'] %}{% else %}
    {% set loop_messages = messages %}{% set system_message = false %}{% endif %}
    {% for message in loop_messages %}
    {% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}{% endif %}
    {% if loop.index0 == 0 and system_message != false %}
    {% set content = '<<SYS>>\n' + system_message + '\n<</SYS>>\n\n' + message['content'] %}
    {% else %}{% set content = message['content'] %}{% endif %}
    {% if message['role'] == 'user' %}{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}
    {% elif message['role'] == 'assistant' %}{{ ' '  + content.strip() + ' ' + eos_token }}
    {% endif %}{% endfor %}
    """#
  ),
  (
    "llama3",
    #"""
    {% set loop_messages = messages %}{% for message in loop_messages %}
    {% set content = '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n'
    + message['content'] | trim + '<|eot_id|>' %}{% if loop.index0 == 0 %}
    {% set content = bos_token + content %}{% endif %}{{ content }}{% endfor %}
    {% if add_generation_prompt %}
    {{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}
    """#
  ),
  (
    "mistral",
    #"""
    {%- if messages[0]["role"] == "system" %}{%- set system_message = messages[0]["content"] %}
    {%- set loop_messages = messages[1:] %}{%- else %}{%- set loop_messages = messages %}
    {%- endif %}{{- bos_token }}{%- for message in loop_messages %}
    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}{%- endif %}
    {%- if message["role"] == "user" %}{%- if loop.first and system_message is defined %}
    {{- " [INST] " + system_message + "\n\n" + message["content"] + " [/INST]" }}{%- else %}
    {{- " [INST] " + message["content"] + " [/INST]" }}{%- endif %}
    {%- elif message["role"] == "assistant" %}{{- " " + message["content"] + eos_token}}
    {%- else %}{%- endif %}{%- endfor %}
    """#
  ),
  (
    "chatml",
    #"""
    {% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content']
    + '<|im_end|>' + '\n'}}{% endfor %}
    {% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}
    """#
  ),
  (
    "smollm2",
    #"""
    {% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}
    {{ '<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n' }}
    {% endif %}
    {{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}
    {% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}
    """#
  ),
  ("smolvlm", smolVLM(video: "")),
  ("smolvlm", smolVLM(video: "{% elif line['type'] == 'video' %}{{ '<video>' }}")),
  (
    "qwen2_vl",
    #"""
    {% set image_count = namespace(value=0) %}{% set video_count = namespace(value=0) %}
    {% for message in messages %}{% if loop.first and message['role'] != 'system' %}<|im_start|>system
    You are a helpful assistant.<|im_end|>
    {% endif %}<|im_start|>{{ message['role'] }}
    {% if message['content'] is string %}{{ message['content'] }}<|im_end|>
    {% else %}{% for content in message['content'] %}{% if content['type'] == 'image' or 'image' in content
    or 'image_url' in content %}{% set image_count.value = image_count.value + 1 %}{% if add_vision_id %}Picture {{ image_count.value }}: {% endif %}<|vision_start|><|image_pad|><|vision_end|>{% elif content['type'] == 'video'
    or 'video' in content %}{% set video_count.value = video_count.value + 1 %}{% if add_vision_id %}Video {{ video_count.value }}: {% endif %}<|vision_start|><|video_pad|><|vision_end|>{% elif 'text' in content %}{{ content['text'] }}{% endif %}{% endfor %}<|im_end|>
    {% endif %}{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
    {% endif %}
    """#
  ),
  ("qwen3_vl", qwen3VL),
  (
    "zephyr",
    #"""
    {% for message in messages %}{% if message['role'] == 'user' %}
    {{ '<|user|>\n' + message['content'] + eos_token }}{% elif message['role'] == 'system' %}
    {{ '<|system|>\n' + message['content'] + eos_token }}
    {% elif message['role'] == 'assistant' %}
    {{ '<|assistant|>\n'  + message['content'] + eos_token }}{% endif %}
    {% if loop.last and add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}{% endfor %}
    """#
  ),
  (
    "vicuna_v1.1",
    #"""
    {% if messages[0]['role'] == 'system' %}{% set loop_messages = messages[1:] %}
    {% set system_message = messages[0]['content'] %}{% else %}
    {% set loop_messages = messages %}{% set system_message =
    'A chat between a curious user and an artificial intelligence assistant. The assistant gives helpful, detailed, and polite answers to the user\'s questions.' %}
    {% endif %}{% for message in loop_messages %}
    {% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}{% endif %}
    {% if loop.index0 == 0 %}{{ system_message }}{% endif %}{% if message['role'] == 'user' %}
    {{ ' USER: ' + message['content'].strip() }}{% elif message['role'] == 'assistant' %}
    {{ ' ASSISTANT: ' + message['content'].strip() + eos_token }}{% endif %}{% endfor %}
    {% if add_generation_prompt %}{{ ' ASSISTANT:' }}{% endif %}
    """#
  ),
  (
    "qwen2",
    #"""
    {% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}
    {{ '<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n' }}{% endif %}
    {{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}
    {% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}
    """#
  ),
]

/// `video`: what newer texts have for one.
private func smolVLM(video: String) -> String {
  "<|im_start|>"
    + #"""
    {% for message in messages %}{{message['role'] | capitalize}}
    {% if message['content'][0]['type'] == 'image' %}{{':'}}{% else %}{{': '}}{% endif %}
    {% for line in message['content'] %}{% if line['type'] == 'text' %}{{line['text']}}
    {% elif line['type'] == 'image' %}{{ '<image>' }}
    """# + video
    + "{% endif %}{% endfor %}<end_of_utterance>\n{% endfor %}"
    + "{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"
}

/// `end`: what follows an answer; two of the three published texts have a slip there.
private func llavaMistral(system: Bool, end: String) -> String {
  let first =
    #"""
    {% if message['role'] == 'system' %}
    {{ '<<SYS>>\n' + message['content'][0]['text'] + '\n<</SYS>>\n\n' }}{% elif
    """#
  return "{% for message in messages %}" + (system ? first : "{% if")
    + #"""
     message['role'] == 'user' %}{{ '[INST] ' }}
    {% for content in message['content'] | selectattr('type', 'equalto', 'image') %}
    {{ '<image>\n' }}{% endfor %}
    {% for content in message['content'] | selectattr('type', 'equalto', 'text') %}
    {{ content['text'] }}{% endfor %}{{' [/INST]' }}
    {% elif message['role'] == 'assistant' %}
    {{ ' ' + message['content'][0]['text'] +
    """# + " '\(end)' }}{% endif %}{% endfor %}"
}

/// With the texts around tools, which no prompt of ours has.
private let qwen3VL: String = {
  let system =
    #"""
    {%- if messages[0].content is string %}{{- messages[0].content }}{%- else %}
    {%- for content in messages[0].content %}{%- if 'text' in content %}{{- content.text }}
    {%- endif %}{%- endfor %}{%- endif %}
    """#
  let parts =
    #"""
    {%- if message.content is string %}{{- message.content }}{%- else %}
    {%- for content in message.content %}
    {%- if content.type == 'image' or 'image' in content or 'image_url' in content %}
    {%- if add_vision_id %}Picture {{ image_count.value }}: {% endif -%}
    <|vision_start|><|image_pad|><|vision_end|>
    {%- elif content.type == 'video' or 'video' in content %}
    {%- if add_vision_id %}Video {{ video_count.value }}: {% endif -%}
    <|vision_start|><|video_pad|><|vision_end|>
    {%- elif 'text' in content %}{{- content.text }}{%- endif %}{%- endfor %}{%- endif %}
    """#
  let answer =
    #"""
    {%- if message.content is string %}{{- message.content }}{%- else %}
    {%- for content_item in message.content %}{%- if 'text' in content_item %}
    {{- content_item.text }}{%- endif %}{%- endfor %}{%- endif %}
    """#
  return #"""
    {%- if tools %}{{- '<|im_start|>system\n' }}{%- if messages[0].role == 'system' %}
    """# + system
      + #"""
      {{- '\n\n' }}{%- endif %}
      {{- "# Tools\n\nYou may call one or more functions to assist with the user query.\n\nYou are provided with function signatures within <tools></tools> XML tags:\n<tools>" }}
      {%- for tool in tools %}{{- "\n" }}{{- tool | tojson }}{%- endfor %}
      {{- "\n</tools>\n\nFor each function call, return a json object with function name and arguments within <tool_call></tool_call> XML tags:\n<tool_call>\n{\"name\": <function-name>, \"arguments\": <args-json-object>}\n</tool_call><|im_end|>\n" }}
      {%- else %}{%- if messages[0].role == 'system' %}{{- '<|im_start|>system\n' }}
      """# + system
        + #"""
        {{- '<|im_end|>\n' }}{%- endif %}{%- endif %}{%- for message in messages %}
        {%- if message.role == "user" %}{{- '<|im_start|>' + message.role + '\n' }}
        """# + parts
        + #"""
        {{- '<|im_end|>\n' }}{%- elif message.role == "assistant" %}
        {{- '<|im_start|>' + message.role + '\n' }}
        """# + answer
        + #"""
        {%- if message.tool_calls %}{%- for tool_call in message.tool_calls %}
        {%- if (loop.first and message.content) or (not loop.first) %}{{- '\n' }}{%- endif %}
        {{- '<tool_call>\n{"name": "' }}{{- tool_call.name }}{{- '", "arguments": ' }}
        {{- '}\n</tool_call>' }}{%- endfor %}{%- endif %}
        {{- '<|im_end|>\n' }}{%- elif message.role == "tool" %}
        {%- if loop.first or (messages[loop.index0 - 1].role != "tool") %}{{- '<|im_start|>user' }}
        {%- endif %}{{- '\n<tool_response>\n' }}
        """# + parts
        + #"""
        {{- '\n</tool_response>' }}
        {%- if loop.last or (messages[loop.index0 + 1].role != "tool") %}{{- '<|im_end|>\n' }}
        {%- endif %}{%- endif %}{%- endfor %}
        {%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{%- endif %}
        """#
}()
